import { type CallHandler, type ExecutionContext, Injectable, type NestInterceptor, SetMetadata } from '@nestjs/common';
import { SSE_METADATA } from '@nestjs/common/constants.js';
import { Reflector } from '@nestjs/core';
import { lastValueFrom, from, type Observable } from 'rxjs';
import { Settings } from '../config/index.js';
import { currentContext } from '../context/index.js';
import { AppError } from '../errors/index.js';

const STREAMING = 'nexus:streaming';

/** Exempts a route from the request timeout (event streams, downloads). */
export const Streaming = (): MethodDecorator => SetMetadata(STREAMING, true);

/**
 * Resolves with the result of `start`, or rejects after the time limit. After that the database refuses all statements of the request,
 * and an open transaction is rolled back instead of committed. What was committed before stays. A repeat with the same
 * `Idempotency-Key`, which makes the request one transaction, shows whether it was.
 * @throws AppError `timeout`
 */
export function inTime<T>(start: () => Promise<T>, seconds: number): Promise<T> {
  const context = currentContext();
  const deadline = { passed: false };
  if (context) context.deadline = deadline;
  // `Promise.race` would create three times as many promises for every request.
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      deadline.passed = true;
      reject(new AppError('timeout', `The request took longer than ${seconds} s`));
    }, seconds * 1000);
    const settle =
      <V>(how: (value: V) => void) =>
      (value: V): void => {
        clearTimeout(timer);
        how(value);
      };
    try {
      start().then(settle(resolve), settle(reject));
    } catch (error) {
      settle(reject)(error);
    }
  });
}

/** Answers 504 when a route takes longer than the setting says. */
@Injectable()
export class RequestTimeoutInterceptor implements NestInterceptor {
  constructor(
    private readonly settings: Settings,
    private readonly reflector: Reflector,
  ) {}

  intercept(execution: ExecutionContext, next: CallHandler): Observable<unknown> {
    const handler = execution.getHandler();
    const endless =
      this.reflector.get<boolean>(STREAMING, handler) || this.reflector.get<boolean>(SSE_METADATA, handler);
    if (endless || execution.getType() !== 'http') return next.handle();
    const work = (): Promise<unknown> => lastValueFrom(next.handle(), { defaultValue: undefined });
    return from(inTime(work, this.settings.requestTimeout));
  }
}
