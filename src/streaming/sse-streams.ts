import { Injectable, type OnModuleDestroy } from '@nestjs/common';
import type { Response } from 'express';
import type { Actor } from '../platform/context/index.js';
import { AppError, isAppError } from '../platform/errors/index.js';
import { InFlight } from '../platform/http/index.js';
import { CredentialWatch } from '../platform/realtime/index.js';
import { SseClient, type SseOrigin } from './sse-client.js';
import { StreamHub } from './stream-hub.js';
import { StreamProblem } from './stream-problem.js';
import { StreamSubscriptions, type Wish } from './stream-subscriptions.js';
import { RETRY_AFTER_MS } from './stream.gateway.js';

/** The readers of server-sent events of this process. Ends their streams when they lose rights and when the server drains. */
@Injectable()
export class SseStreams implements OnModuleDestroy {
  constructor(
    private readonly hub: StreamHub,
    private readonly subscriptions: StreamSubscriptions,
    private readonly watch: CredentialWatch,
    private readonly inFlight: InFlight,
  ) {}

  /**
   * Answers with a stream that lasts until the reader disconnects.
   * @throws AppError `validation`, `forbidden`, `rate_limited`, before anything is sent
   */
  async open(actor: Actor, wish: Wish, response: Response, origin: SseOrigin): Promise<void> {
    const client = new SseClient(actor, response, origin);
    try {
      await this.subscriptions.check(client, wish);
      this.hub.enter(client);
    } catch (error) {
      throw asAppError(error);
    }
    const drain = (): void => this.drain(client);
    const unwatch = this.watch.watch({ actor, headers: origin.credential, ip: origin.ip }, (reason) =>
      this.revoked(client, reason),
    );
    response.once('close', () => {
      unwatch();
      this.inFlight.draining.removeEventListener('abort', drain);
      this.hub.leave(client);
    });
    // The reader disconnected while its request was checked.
    if (response.destroyed) {
      unwatch();
      this.hub.leave(client);
      return;
    }
    this.inFlight.draining.addEventListener('abort', drain, { once: true });
    response.status(200).set({
      'Content-Type': 'text/event-stream; charset=utf-8',
      'Cache-Control': 'no-cache, no-transform',
      'X-Accel-Buffering': 'no',
    });
    response.flushHeaders();
    const timestamp = new Date().toISOString();
    client.tell({ type: 'connection_established', client_id: client.id, timestamp, retry_after_ms: RETRY_AFTER_MS });
    try {
      await this.subscriptions.subscribe(client, wish);
    } catch (error) {
      const { code, message } = asAppError(error);
      client.tell({ type: 'error', code, message });
      client.close();
    }
  }

  onModuleDestroy(): void {
    for (const client of [...this.hub.all()]) if (client instanceof SseClient) this.drain(client);
  }

  private drain(client: SseClient): void {
    const retry = Math.round(RETRY_AFTER_MS * (0.5 + Math.random()));
    client.tell({ type: 'draining', message: 'The server is stopping', retry_after_ms: retry });
    client.close();
  }

  private revoked(client: SseClient, message: string): void {
    client.tell({ type: 'error', code: 'AUTHENTICATION_FAILED', message });
    client.close();
  }
}

function asAppError(error: unknown): AppError {
  if (!(error instanceof StreamProblem)) return isAppError(error) ? error : new AppError('internal', 'It failed');
  switch (error.code) {
    case 'INSUFFICIENT_SCOPE':
      return AppError.forbidden(error.message);
    case 'UNKNOWN_SUBSCRIPTION':
      return new AppError('not_found', error.message);
    case 'SUBSCRIPTION_DISABLED':
      return AppError.conflict(error.message);
    case 'LIMIT_EXCEEDED':
      return new AppError('rate_limited', error.message, { retryAfter: 5 });
    default:
      return AppError.validation({ field: 'channels', issue: error.message, location: 'query' }, error.message);
  }
}
