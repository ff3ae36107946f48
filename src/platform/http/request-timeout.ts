import { type CallHandler, type ExecutionContext, Injectable, type NestInterceptor, SetMetadata } from '@nestjs/common';
import { SSE_METADATA } from '@nestjs/common/constants.js';
import { Reflector } from '@nestjs/core';
import { lastValueFrom, from, type Observable } from 'rxjs';
import { Settings } from '../config/index.js';
import { AppError } from '../errors/index.js';

const STREAMING = 'nexus:streaming';

/** The route answers for as long as it likes (event streams, downloads): the request timeout does not apply. */
export const Streaming = (): MethodDecorator => SetMetadata(STREAMING, true);

/**
 * Resolves with `work`, or rejects once it has taken too long. The work itself goes on: its effect may still come, which an
 * `Idempotency-Key` lets the caller find out.
 * @throws AppError `timeout`
 */
export async function inTime<T>(work: Promise<T>, seconds: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(new AppError('timeout', `The request took longer than ${seconds} s`)),
      seconds * 1000,
    );
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Answers 504 when a route takes longer than the setting says (GEN-22). */
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
    return from(inTime(lastValueFrom(next.handle(), { defaultValue: undefined }), this.settings.requestTimeout));
  }
}
