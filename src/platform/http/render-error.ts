import { HttpException } from '@nestjs/common';
import { currentContext } from '../context/index.js';
import { databaseErrorKind } from '../database/index.js';
import { AppError, isAppError } from '../errors/index.js';
import { expectedOf } from './field-issues.js';

export interface RenderedError {
  status: number;
  headers: Record<string, string>;
  body: object;
  /** True for a fault of the server, which must be logged with its cause. */
  unexpected: boolean;
}

/** Renders anything thrown as the error body of the API, without internal details. */
export function renderError(thrown: unknown): RenderedError {
  const error = toAppError(thrown);
  const timestamp = new Date().toISOString();
  const requestId = currentContext()?.requestId;
  const body = {
    success: false,
    error: {
      code: error.code,
      message: error.message,
      ...(error.type ? { type: error.type } : {}),
      details: renderDetails(error),
      request_id: requestId,
      timestamp,
      ...(error.retryAfter === undefined ? {} : { retry_after: error.retryAfter }),
      ...(error.limit === undefined ? {} : { limit: error.limit }),
      ...(error.window === undefined ? {} : { window: error.window }),
    },
    timestamp,
    request_id: requestId,
  };
  const headers: Record<string, string> = {
    ...error.headers,
    ...(error.retryAfter === undefined ? {} : { 'Retry-After': String(error.retryAfter) }),
  };
  if (error.kind === 'unauthenticated') headers['WWW-Authenticate'] ??= 'Bearer realm="nexus"';
  return { status: error.status, headers, body, unexpected: error.kind === 'internal' };
}

function renderDetails(error: AppError): unknown {
  if (!Array.isArray(error.details)) return error.details ?? {};
  const location = currentContext()?.method === 'GET' ? 'query' : 'body';
  return error.details.map((issue) => ({
    location,
    ...issue,
    reason: issue.issue,
    expected: issue.expected ?? expectedOf(issue.issue),
  }));
}

/** The text to log for an unexpected error. */
export function causeOf(thrown: unknown): string {
  const cause = thrown instanceof Error && thrown.cause instanceof Error ? thrown.cause : thrown;
  return cause instanceof Error ? (cause.stack ?? cause.message) : String(cause);
}

/** People have to clear a full disk, while a failover ends by itself. */
const FULL_RETRY_SECONDS = 60;
const READ_ONLY_RETRY_SECONDS = 5;

function toAppError(thrown: unknown): AppError {
  if (isAppError(thrown)) return thrown;
  if (thrown instanceof HttpException) return fromHttpException(thrown);
  return fromDatabaseError(thrown) ?? new AppError('internal', 'Internal server error', { cause: thrown });
}

function fromDatabaseError(cause: unknown): AppError | null {
  switch (databaseErrorKind(cause)) {
    case 'foreign_key_violation':
      return new AppError('conflict', 'Something that this refers to is gone', { cause });
    case 'unique_violation':
      return new AppError('conflict', 'The resource already exists', { cause });
    case 'statement_timeout':
      return new AppError('timeout', 'The database took too long', { cause });
    case 'bad_data':
      return AppError.validation({
        field: '',
        issue: 'a value is out of the range that can be stored',
        expected: 'values that PostgreSQL can store',
      });
    case 'disk_full':
      return new AppError('insufficient_storage', 'The database has no space left on its disk', {
        retryAfter: FULL_RETRY_SECONDS,
        cause,
      });
    case 'no_writes':
      return new AppError('unavailable', 'The database takes no changes at the moment', {
        retryAfter: READ_ONLY_RETRY_SECONDS,
        cause,
      });
    case 'transaction_conflict':
    case 'lock_timeout':
    case 'too_many_connections':
    case 'unavailable':
      return new AppError('unavailable', 'The database is busy or restarting', { retryAfter: 1, cause });
    case 'connection_lost':
      return new AppError('unavailable', 'The database cannot be reached at the moment', { retryAfter: 1, cause });
    case 'check_violation':
    case null:
      return null;
  }
}

function fromHttpException(error: HttpException): AppError {
  const status = error.getStatus();
  if (status === 404) return new AppError('not_found', error.message);
  if (status === 413) return new AppError('too_large', error.message);
  if (status === 415) return new AppError('unsupported_media', error.message);
  if (status === 401) return AppError.unauthenticated('TOKEN_INVALID', error.message);
  if (status === 403) return AppError.forbidden();
  if (status === 503) return AppError.unavailable('The service is temporarily unavailable');
  if (status >= 400 && status < 500) return new AppError('validation', error.message);
  return new AppError('internal', 'Internal server error', { cause: error });
}
