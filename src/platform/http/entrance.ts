import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { Injectable } from '@nestjs/common';
import { Settings } from '../config/index.js';
import { type RequestContext, runInContext } from '../context/index.js';
import { AppError } from '../errors/index.js';
import { clientIp } from './client-ip.js';
import { InFlight } from './in-flight.js';
import { LeanRoutes } from './lean-routes.js';
import { requestIdOf } from './request-id.js';
import { renderError } from './render-error.js';
import { RequestObservers } from './request-observers.js';
import type { AuditPolicy } from './route-declarations.js';
import { sendJson } from './send-json.js';

/** Probes and metrics answer in every role, and also while all other requests are refused. */
const ALWAYS = new Set(['/health', '/health/detailed', '/healthz', '/readyz', '/startup', '/metrics']);

export function answersAlways({ path = '' }: RequestContext): boolean {
  return ALWAYS.has(path);
}

/**
 * The entry point of every request: creates its context and passes it to a lean route or to Express.
 */
@Injectable()
export class Entrance {
  constructor(
    private readonly settings: Settings,
    private readonly lean: LeanRoutes,
    private readonly inFlight: InFlight,
    private readonly observers: RequestObservers,
  ) {}

  listener(express: RequestListener): RequestListener {
    return (request, response) => this.enter(express, request, response);
  }

  private enter(express: RequestListener, request: IncomingMessage, response: ServerResponse): void {
    const context = openContext(request);
    const always = answersAlways(context);
    this.inFlight.enter(response);
    if (this.lean.take(request, response, context)) return;
    response.setHeader('X-Request-ID', context.requestId);
    response.once('close', () => this.leave(context, request, response));
    runInContext(context, () => {
      if (always || this.settings.runsApi) {
        express(request, response);
        return;
      }
      const error = new AppError('not_found', 'This process runs jobs only', { details: { path: context.path } });
      const { status, headers, body } = renderError(error);
      sendJson(request, response, status, body, headers);
    });
  }

  private leave(context: RequestContext, request: IncomingMessage, response: ServerResponse): void {
    const known = request as IncomingMessage & { route?: { path?: string }; auditPolicy?: AuditPolicy };
    context.route ??= known.route?.path;
    this.observers.finished({
      context,
      status: response.writableFinished ? response.statusCode : 499,
      durationMs: performance.now() - context.startedAt,
      audit: known.auditPolicy ?? 'entry',
    });
  }
}

function openContext(request: IncomingMessage): RequestContext {
  const url = request.url ?? '/';
  const query = url.indexOf('?');
  const claimed = request.headers['x-user-id'];
  return {
    requestId: requestIdOf(request.headers['x-request-id']),
    startedAt: performance.now(),
    ip: clientIp(request),
    userAgent: request.headers['user-agent'],
    method: request.method,
    path: query === -1 ? url : url.slice(0, query),
    claimedUserId: typeof claimed === 'string' ? claimed.slice(0, 128) : undefined,
  };
}

/** Errors that Node reports before there is a request. They are answered with the ordinary error body. */
const CLIENT_ERRORS: Record<string, { status: string; code: string; message: string }> = {
  HPE_HEADER_OVERFLOW: {
    status: '431 Request Header Fields Too Large',
    code: 'HEADERS_TOO_LARGE',
    message: 'The headers are larger than 16384 bytes',
  },
  ERR_HTTP_REQUEST_TIMEOUT: {
    status: '408 Request Timeout',
    code: 'TIMEOUT',
    message: 'The request did not arrive in time',
  },
};

/** Time that a client has to read such an answer. */
const UNREAD_MS = 1000;

const MALFORMED = { status: '400 Bad Request', code: 'VALIDATION_ERROR', message: 'This is not an HTTP request' };

/** Node's own property for the response that a connection is sending. Nothing may be written into the middle of it. */
type Answering = Duplex & { _httpMessage?: { headersSent: boolean } };

export function answerClientError(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || !socket.writable || (socket as Answering)._httpMessage?.headersSent) {
    socket.destroy();
    return;
  }
  const { status, code, message } = CLIENT_ERRORS[error.code ?? ''] ?? MALFORMED;
  const request_id = requestIdOf(undefined);
  const timestamp = new Date().toISOString();
  const body = JSON.stringify({
    success: false,
    error: { code, message, details: {}, request_id, timestamp },
    timestamp,
    request_id,
  });
  // Destroyed in the end, because a client that does not read could keep a half-closed connection open.
  setTimeout(() => socket.destroy(), UNREAD_MS).unref();
  socket.end(
    `HTTP/1.1 ${status}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\n` +
      `X-Request-ID: ${request_id}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n${body}`,
    () => socket.destroy(),
  );
}
