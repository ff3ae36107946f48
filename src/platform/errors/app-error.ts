/** The kinds of failure. The kind decides the HTTP status, the default code and whether a retry can help. */
const KINDS = {
  validation: { status: 400, code: 'VALIDATION_ERROR', retryable: false },
  unauthenticated: { status: 401, code: 'AUTHENTICATION_FAILED', retryable: false },
  forbidden: { status: 403, code: 'AUTHORIZATION_FAILED', retryable: false },
  not_found: { status: 404, code: 'RESOURCE_NOT_FOUND', retryable: false },
  method_not_allowed: { status: 405, code: 'METHOD_NOT_ALLOWED', retryable: false },
  conflict: { status: 409, code: 'RESOURCE_CONFLICT', retryable: false },
  gone: { status: 410, code: 'RESOURCE_EXPIRED', retryable: false },
  precondition: { status: 412, code: 'PRECONDITION_FAILED', retryable: false },
  too_large: { status: 413, code: 'PAYLOAD_TOO_LARGE', retryable: false },
  unsupported_media: { status: 415, code: 'UNSUPPORTED_MEDIA_TYPE', retryable: false },
  unprocessable: { status: 422, code: 'UNPROCESSABLE_ENTITY', retryable: false },
  upgrade_required: { status: 426, code: 'UPGRADE_REQUIRED', retryable: false },
  locked: { status: 423, code: 'ACCOUNT_LOCKED', retryable: true },
  rate_limited: { status: 429, code: 'RATE_LIMIT_EXCEEDED', retryable: true },
  internal: { status: 500, code: 'INTERNAL_ERROR', retryable: false },
  upstream: { status: 502, code: 'UPSTREAM_FAILED', retryable: true },
  unavailable: { status: 503, code: 'SERVICE_UNAVAILABLE', retryable: true },
  insufficient_storage: { status: 507, code: 'INSUFFICIENT_STORAGE', retryable: true },
  timeout: { status: 504, code: 'TIMEOUT', retryable: true },
} as const;

export type ErrorKind = keyof typeof KINDS;

/** One wrong field of a request. What it says of `expected` and `location` is filled in from `issue` and the request. */
export interface FieldIssue {
  field: string;
  issue: string;
  expected?: string;
  received?: string;
  location?: 'body' | 'query' | 'path' | 'header';
}

/** Issues that one answer names. */
export const MAX_ISSUES = 50;

interface AppErrorOptions {
  code?: string;
  /** Sub-code rendered as `error.type`, e.g. `TOKEN_EXPIRED`. */
  type?: string;
  details?: Record<string, unknown> | FieldIssue[];
  /** Seconds after which a retry makes sense; rendered as `error.retry_after` and `Retry-After`. */
  retryAfter?: number;
  limit?: number;
  window?: string;
  /** Sent with the answer. */
  headers?: Record<string, string>;
  cause?: unknown;
}

/** The only error a domain throws. The message is shown to the caller: no internals in it. */
export class AppError extends Error {
  readonly status: number;
  readonly code: string;
  readonly retryable: boolean;
  readonly type?: string;
  readonly details?: Record<string, unknown> | FieldIssue[];
  readonly retryAfter?: number;
  readonly limit?: number;
  readonly window?: string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    readonly kind: ErrorKind,
    message: string,
    options: AppErrorOptions = {},
  ) {
    super(message, { cause: options.cause });
    this.name = 'AppError';
    const { status, code, retryable } = KINDS[kind];
    this.status = status;
    this.code = options.code ?? code;
    this.retryable = retryable;
    this.type = options.type;
    this.details = options.details;
    this.retryAfter = options.retryAfter;
    this.limit = options.limit;
    this.window = options.window;
    this.headers = options.headers ?? {};
  }

  static validation(issues: FieldIssue | FieldIssue[], message = 'Invalid request parameters'): AppError {
    const details = Array.isArray(issues) ? issues : [issues];
    if (details.length <= MAX_ISSUES) return new AppError('validation', message, { details });
    const text = `${message}; only the first ${MAX_ISSUES} problems are listed`;
    return new AppError('validation', text, { details: details.slice(0, MAX_ISSUES) });
  }

  static unauthenticated(
    type: string,
    message: string,
    options: Pick<AppErrorOptions, 'details' | 'headers'> = {},
  ): AppError {
    return new AppError('unauthenticated', message, { type, ...options });
  }

  static forbidden(
    message = 'Insufficient permissions for this resource',
    details?: Record<string, unknown>,
  ): AppError {
    return new AppError('forbidden', message, { details });
  }

  static notFound(resource: string, id: string): AppError {
    return new AppError('not_found', `${resource} not found`, { details: { resource, id } });
  }

  static conflict(message: string, details?: Record<string, unknown>): AppError {
    return new AppError('conflict', message, { details });
  }

  static unprocessable(message: string, details?: Record<string, unknown>): AppError {
    return new AppError('unprocessable', message, { details });
  }

  static unavailable(message: string, retryAfter = 1): AppError {
    return new AppError('unavailable', message, { retryAfter });
  }
}

export function isAppError(error: unknown): error is AppError {
  return error instanceof AppError;
}
