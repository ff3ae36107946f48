import { createHash } from 'node:crypto';
import {
  applyDecorators,
  type CallHandler,
  type ExecutionContext,
  Injectable,
  type NestInterceptor,
  SetMetadata,
} from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { ApiExtension } from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { from, lastValueFrom, type Observable } from 'rxjs';
import { type Actor, currentContext } from '../context/index.js';
import { Database, databaseErrorKind } from '../database/index.js';
import { AppError } from '../errors/index.js';
import { IdempotencyStore, type RequestKey } from './idempotency-store.js';

const EXEMPT = 'nexus:not-idempotent';
const OWN_FIELD = 'nexus:own-idempotency-field';
const KEPT_HEADERS = ['location', 'etag'];

/** The header `Idempotency-Key` has no effect on this route: it handles repeats itself, or its effect is not in the database. */
export const NotIdempotent = (): MethodDecorator =>
  applyDecorators(SetMetadata(EXEMPT, true), ApiExtension('x-idempotency', false));

/** The route itself handles the field `idempotency_key` of its body. */
export const OwnIdempotencyField = (): MethodDecorator => SetMetadata(OWN_FIELD, true);

/**
 * Executes a POST with an `Idempotency-Key` (a header, or the field `idempotency_key` of its body) only once. The key, the effect
 * and the stored answer are committed in one transaction, which the transaction of the handler joins. Requests without a key cost
 * nothing more; a refused request stores nothing.
 */
@Injectable()
export class IdempotencyInterceptor implements NestInterceptor {
  constructor(
    private readonly db: Database,
    private readonly store: IdempotencyStore,
    private readonly reflector: Reflector,
  ) {}

  intercept(execution: ExecutionContext, next: CallHandler): Observable<unknown> {
    if (execution.getType() !== 'http') return next.handle();
    const http = execution.switchToHttp();
    const request = http.getRequest<Request>();
    const handler = execution.getHandler();
    if (request.method !== 'POST' || this.reflector.get<boolean>(EXEMPT, handler)) return next.handle();
    // Without an actor no answer is stored, since two unknown callers must not share one.
    const actor = currentContext()?.actor;
    if (!actor) return next.handle();
    const field = this.reflector.get<boolean>(OWN_FIELD, handler) ? undefined : takeField(request);
    const header = request.get('idempotency-key');
    const key = header ?? field;
    if (key === undefined) return next.handle();
    if (typeof key !== 'string' || !/^[\x21-\x7e]{1,255}$/.test(key)) {
      throw refusal(header === undefined, 'must be 1 to 255 printable characters');
    }
    if (field !== undefined && field !== key) throw refusal(true, 'is not the same as the header Idempotency-Key');
    const route = (request.route as { path: string }).path;
    return from(this.once({ principal: principalOf(actor), route, key }, request, http.getResponse<Response>(), next));
  }

  private async once(key: RequestKey, request: Request, response: Response, next: CallHandler): Promise<unknown> {
    const hash = createHash('sha256')
      .update(`${request.originalUrl}\n`)
      .update(request.rawBody ?? '')
      .digest();
    return this.db.transaction(async (tx) => {
      const stored = await this.store.claim(tx, key, hash).catch((error: unknown) => {
        throw databaseErrorKind(error) === 'lock_timeout'
          ? AppError.conflict('A request with this Idempotency-Key is still being worked on', {
              idempotency_key: key.key,
            })
          : error;
      });
      if (stored) {
        response.status(stored.status).set(stored.headers).set('Idempotency-Replayed', 'true');
        return stored.body;
      }
      const body: unknown = await lastValueFrom(next.handle(), { defaultValue: undefined });
      const headers = Object.fromEntries(
        KEPT_HEADERS.flatMap((name) => {
          const value = response.getHeader(name);
          return value === undefined ? [] : [[name, String(value)]];
        }),
      );
      await this.store.store(tx, key, { status: response.statusCode, headers, body });
      return body;
    });
  }
}

/**
 * Stored answers are separate for each principal. A key is its own principal, because it may have fewer rights than another key of
 * its user. A user is the same principal in every session.
 */
function principalOf(actor: Actor): string {
  return actor.type === 'user' ? actor.id : (actor.credentialId ?? actor.id);
}

/** Removes the field from the body, because the DTO does not have it. @returns its value */
function takeField(request: Request): unknown {
  const body = request.body as unknown;
  if (typeof body !== 'object' || body === null || !('idempotency_key' in body)) return undefined;
  const { idempotency_key: key, ...rest } = body;
  request.body = rest;
  return key;
}

function refusal(inBody: boolean, issue: string): AppError {
  return AppError.validation(
    inBody
      ? { field: 'idempotency_key', issue, location: 'body' }
      : { field: 'Idempotency-Key', issue, location: 'header' },
  );
}
