import { createHash } from 'node:crypto';
import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { Request, RequestHandler } from 'express';
import { AppError } from '../errors/index.js';

/**
 * Gives every successful JSON answer to a GET a strong `ETag` over its exact bytes, unless the route has set one, and
 * answers a matching `If-None-Match` with 304. Only such answers may be cached, by the caller alone, who must
 * revalidate them each time; all others may not be cached.
 */
export function tagAnswers(): RequestHandler {
  return (request, response, next) => {
    response.setHeader('Cache-Control', 'no-store');
    if (request.method === 'GET' || request.method === 'HEAD') {
      const send = response.send.bind(response);
      response.send = (body?: unknown) => {
        const json = String(response.getHeader('Content-Type') ?? '').includes('json');
        if (response.statusCode === 200 && typeof body === 'string' && json) {
          const tag = String(response.getHeader('ETag') ?? `"${digest(body)}"`);
          response.setHeader('ETag', tag);
          if (response.getHeader('Cache-Control') === 'no-store') {
            response.setHeader('Cache-Control', 'private, no-cache');
          }
          // Express would ignore the tag when the client also sends `no-cache`, as every fetch() does.
          if (names(request.get('if-none-match'), tag)) response.status(304);
        }
        return send(body);
      };
    }
    next();
  };
}

/** The tag of an envelope. It is weak and covers only the data, because time and request id differ in each answer. */
export function weakETag(data: unknown): string {
  return `W/"${digest(JSON.stringify(data))}"`;
}

/**
 * The tag of a resource with a version, which `If-Match` is compared with. Parts of the answer that change without a new version are
 * passed as `shown`, so that a reader with `If-None-Match` gets them again.
 */
export function versionETag(version: number, shown?: unknown): string {
  return shown === undefined ? `"v${version}"` : `"v${version}.${digest(JSON.stringify(shown))}"`;
}

/**
 * The version that a write expects, from `If-Match: "v3"`; undefined without the header.
 * @throws AppError `precondition` for a tag that cannot be that of a version
 */
export const IfMatch = createParamDecorator((_data: unknown, execution: ExecutionContext): number | undefined => {
  const header = execution.switchToHttp().getRequest<Request>().get('if-match')?.trim();
  if (header === undefined || header === '*') return undefined;
  const version = /^"v(\d{1,15})(\.[\w-]+)?"$/.exec(header)?.[1];
  if (version === undefined) throw changed();
  return Number(version);
});

/** @throws AppError `precondition` when the resource is not at the version the caller expects */
export function assertVersion(expected: number | undefined, actual: number): void {
  if (expected !== undefined && expected !== actual) throw changed();
}

function changed(): AppError {
  return new AppError('precondition', 'The resource has changed since you read it');
}

/** Weak comparison of RFC 9110, 13.1.2. */
function names(header: string | undefined, tag: string): boolean {
  if (header === undefined) return false;
  const bare = tag.replace(/^W\//, '');
  return header.trim() === '*' || header.split(',').some((one) => one.trim().replace(/^W\//, '') === bare);
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('base64url').slice(0, 27);
}
