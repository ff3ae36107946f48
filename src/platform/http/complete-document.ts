import type { OpenAPIObject } from '@nestjs/swagger';
import { documentPaths } from './document-paths.js';
import { errorSchema, modernise } from './document-schemas.js';
import { SUCCESS_MESSAGE } from './wire.js';

type Json = Record<string, unknown>;
interface Operation extends Json {
  operationId?: string;
  parameters?: Json[];
  requestBody?: Json;
  responses: Record<string, Json>;
  security?: unknown[];
  tags?: string[];
}

const METHODS = ['get', 'put', 'post', 'delete', 'patch'] as const;

/** Error answers that many operations share. The document has each once, under components. */
const ERRORS: Record<string, { name: string; description: string; code: string; message: string }> = {
  400: {
    name: 'BadRequest',
    description: 'Something in the request is wrong',
    code: 'VALIDATION_ERROR',
    message: 'Invalid request parameters',
  },
  401: {
    name: 'Unauthenticated',
    description: 'No valid credential',
    code: 'AUTHENTICATION_FAILED',
    message: 'Authentication is required',
  },
  403: {
    name: 'Forbidden',
    description: 'The credential lacks the scope',
    code: 'AUTHORIZATION_FAILED',
    message: 'Insufficient permissions for this resource',
  },
  404: {
    name: 'NotFound',
    description: 'There is no such resource',
    code: 'RESOURCE_NOT_FOUND',
    message: 'cmd not found',
  },
  409: {
    name: 'Conflict',
    description: 'Clashes with the state of the resource, or with another request of the same Idempotency-Key',
    code: 'RESOURCE_CONFLICT',
    message: 'The resource already exists',
  },
  410: {
    name: 'Gone',
    description: 'It existed, and has expired since',
    code: 'RESOURCE_EXPIRED',
    message: 'The event has expired',
  },
  412: {
    name: 'PreconditionFailed',
    description: 'The resource is not at the version of `If-Match`',
    code: 'PRECONDITION_FAILED',
    message: 'The resource has changed since you read it',
  },
  413: {
    name: 'TooLarge',
    description: 'The body is larger than allowed',
    code: 'PAYLOAD_TOO_LARGE',
    message: 'The body is larger than 1048576 bytes',
  },
  415: {
    name: 'UnsupportedMedia',
    description: 'The body is not JSON',
    code: 'UNSUPPORTED_MEDIA_TYPE',
    message: 'The body must be JSON (Content-Type: application/json)',
  },
  422: {
    name: 'Unprocessable',
    description: 'Well formed, but cannot be done',
    code: 'UNPROCESSABLE_ENTITY',
    message: 'The request cannot be carried out',
  },
  423: {
    name: 'Locked',
    description: 'Locked for a while after failed attempts',
    code: 'ACCOUNT_LOCKED',
    message: 'Too many failed attempts; try again later',
  },
  429: {
    name: 'RateLimited',
    description: 'Too many requests; try again after Retry-After',
    code: 'RATE_LIMIT_EXCEEDED',
    message: 'Too many requests',
  },
  500: {
    name: 'InternalError',
    description: 'A fault of the server',
    code: 'INTERNAL_ERROR',
    message: 'Internal server error',
  },
  503: {
    name: 'Unavailable',
    description: 'Overloaded, starting, stopping or without its database; try again',
    code: 'SERVICE_UNAVAILABLE',
    message: 'The service is temporarily unavailable',
  },
  504: {
    name: 'Timeout',
    description: 'The request took too long and was rolled back',
    code: 'TIMEOUT',
    message: 'The request took longer than 30 s',
  },
  507: {
    name: 'InsufficientStorage',
    description: 'The database has no space left on its disk',
    code: 'INSUFFICIENT_STORAGE',
    message: 'The database has no space left on its disk',
  },
};

const HEADERS: Record<string, { description: string; example: unknown; type: string }> = {
  'X-Request-ID': { description: 'Id of this request', example: 'req_01JQ8Z9V0N5T3M2K1H7G6F5E4D', type: 'string' },
  'X-RateLimit-Limit': { description: 'Requests allowed in the window', example: 1000, type: 'integer' },
  'X-RateLimit-Remaining': { description: 'Requests left in the window', example: 999, type: 'integer' },
  'X-RateLimit-Reset': { description: 'When the window ends, Unix seconds', example: 1762134900, type: 'integer' },
  'X-RateLimit-Window': { description: 'Length of the window in seconds', example: 60, type: 'integer' },
  'Retry-After': { description: 'Seconds to wait before trying again', example: 30, type: 'integer' },
};

/** Adds to the scanned routes what they share (errors, headers, `Idempotency-Key`, tags, envelopes) and converts them to OpenAPI 3.1. */
export function completeDocument(
  document: OpenAPIObject,
  options: { prefix: string; tags: [name: string, description: string][] },
): OpenAPIObject {
  const whole = document as unknown as Json & { paths: Record<string, Json>; components: Record<string, Json> };
  whole.paths = documentPaths(whole.paths);
  const used = new Set<string>();
  for (const [path, item] of Object.entries(whole.paths)) {
    for (const method of METHODS) {
      const operation = item[method] as Operation | undefined;
      if (!operation) continue;
      const limited = path.startsWith(`/${options.prefix}/`) && operation['x-rate-limit'] !== 'none';
      completeOperation(operation, method, path, limited);
      for (const tag of operation.tags ?? []) used.add(tag);
    }
  }
  const known = new Map(options.tags);
  whole.tags = [...known.keys(), ...used]
    .filter((name, index, all) => used.has(name) && all.indexOf(name) === index)
    .map((name) => ({ name, description: known.get(name) ?? name }));
  whole.components = {
    ...whole.components,
    schemas: { ...whole.components.schemas, Error: errorSchema() },
    responses: {
      NotModified: { description: 'The answer is the one of `If-None-Match`' },
      ...Object.fromEntries(
        Object.entries(ERRORS).map(([status, error]) => [error.name, errorResponse(status, error)]),
      ),
    },
    headers: Object.fromEntries(
      Object.entries(HEADERS).map(([name, { description, example, type }]) => [
        name,
        { description, example, schema: { type } },
      ]),
    ),
  };
  modernise(whole.components.schemas);
  modernise(whole.paths);
  return document;
}

function completeOperation(operation: Operation, method: string, path: string, limited: boolean): void {
  const writes = method === 'post' || method === 'put' || method === 'patch';
  const guarded = (operation.security?.length ?? 0) > 0;
  const statuses = [
    '400',
    ...(guarded ? ['401', '403'] : []),
    ...(path.includes('{') ? ['404'] : []),
    ...(method === 'get' ? [] : ['409', '413', '415', '507']),
    ...(writes ? ['422'] : []),
    ...(operation.parameters?.some(({ name }) => name === 'If-Match') ? ['412'] : []),
    // Refused credentials are counted also on routes without a rate limit.
    ...(limited || '401' in operation.responses ? ['429'] : []),
    '500',
    '503',
    '504',
  ];
  if (method === 'post' && operation['x-idempotency'] !== false) {
    operation.parameters = [
      ...(operation.parameters ?? []),
      {
        name: 'Idempotency-Key',
        in: 'header',
        required: false,
        description: 'Makes the request safe to repeat for 24 hours; the body may hold it as `idempotency_key` instead',
        schema: { type: 'string', minLength: 1, maxLength: 255 },
        example: '5e0c6f0a-3b1d-4c5e-9b7a-2f1e0d9c8b7a',
      },
    ];
  }
  delete operation['x-idempotency'];
  if (operation['x-sunset']) operation.deprecated = true;
  const headers = Object.fromEntries(
    Object.keys(HEADERS)
      .filter((name) => name === 'X-Request-ID' || (limited && name.startsWith('X-RateLimit')))
      .map((name) => [name, { $ref: `#/components/headers/${name}` }]),
  );
  for (const response of Object.values(operation.responses)) {
    if (!response.$ref) response.headers = { ...headers, ...(response.headers as Json) };
  }
  if (operation['x-wire'] === 'envelope') wrapAnswers(operation);
  delete operation['x-wire'];
  operation.security ??= [];
  if (method === 'get' && contentOf(operation.responses['200'])['application/json']) {
    operation.responses['304'] = { $ref: '#/components/responses/NotModified' };
  }
  // A route that declares another of the shared errors gets its common description.
  const named = Object.keys(operation.responses).filter((status) => status in ERRORS);
  for (const status of [...statuses, ...named.filter((status) => !operation.responses[status].content)]) {
    const common = { $ref: `#/components/responses/${ERRORS[status].name}` };
    if (!operation.responses[status]?.content) operation.responses[status] = common;
  }
}

function contentOf(response: Json | undefined): Record<string, Json> {
  return (response?.content ?? {}) as Record<string, Json>;
}

/** Wraps the success bodies of the envelope profile in the envelope, as they are sent. */
function wrapAnswers(operation: Operation): void {
  for (const [status, response] of Object.entries(operation.responses)) {
    const content = contentOf(response)['application/json'] as Json | undefined;
    if (!status.startsWith('2') || !content?.schema) continue;
    content.schema = {
      type: 'object',
      required: ['success', 'data', 'message', 'timestamp', 'request_id'],
      properties: {
        success: { type: 'boolean', const: true },
        data: content.schema,
        message: { type: 'string', examples: [SUCCESS_MESSAGE] },
        timestamp: { type: 'string', format: 'date-time', examples: ['2025-11-03T01:54:00.000Z'] },
        request_id: { type: 'string', examples: [HEADERS['X-Request-ID'].example] },
      },
    };
  }
}

function errorResponse(status: string, error: { description: string; code: string; message: string }): Json {
  const again = status === '429' || status === '503';
  return {
    description: error.description,
    headers: {
      'X-Request-ID': { $ref: '#/components/headers/X-Request-ID' },
      ...(again ? { 'Retry-After': { $ref: '#/components/headers/Retry-After' } } : {}),
    },
    content: {
      'application/json': {
        schema: { $ref: '#/components/schemas/Error' },
        example: errorExample(error, again),
      },
    },
  };
}

function errorExample({ code, message }: { code: string; message: string }, again: boolean): Json {
  const timestamp = '2025-11-03T01:54:00.000Z';
  const request_id = HEADERS['X-Request-ID'].example;
  const details =
    code === 'VALIDATION_ERROR'
      ? [
          {
            field: 'timeout_seconds',
            issue: 'must not be greater than 3600',
            reason: 'must not be greater than 3600',
            expected: 'not greater than 3600',
            received: 'number',
            location: 'body',
          },
        ]
      : {};
  return {
    success: false,
    error: { code, message, details, request_id, timestamp, ...(again ? { retry_after: 30 } : {}) },
    timestamp,
    request_id,
  };
}
