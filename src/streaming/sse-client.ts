import type { IncomingHttpHeaders } from 'node:http';
import type { Response } from 'express';
import type { Actor } from '../platform/context/index.js';
import { StreamClient, type StreamMessage } from './stream-client.js';
import type { Frame } from './stream-event.js';

/** Bytes that may wait for a slow reader. It is disconnected when another event would go beyond it. */
const BUFFER_LIMIT = 1024 * 1024;
/** A reader that has taken nothing for this long is disconnected. */
const STALL_MS = 25_000;

/** How a reader of server-sent events was authenticated. */
export interface SseOrigin {
  /** Headers with the credential, to look it up again. */
  credential: IncomingHttpHeaders;
  ip: string;
  /** The only channels that its ticket allows; null: all that its credential may read. */
  only: readonly string[] | null;
}

/** A reader of server-sent events. */
export class SseClient extends StreamClient {
  private drainedAt = Date.now();
  private drainedBytes = 0;
  private sentBytes = 0;

  constructor(
    actor: Actor,
    private readonly response: Response,
    readonly origin: SseOrigin,
  ) {
    super(actor, 'sse', origin.only);
  }

  get open(): boolean {
    return !this.response.writableEnded && !this.response.destroyed;
  }

  flushed(): Promise<void> {
    if (!this.open || this.response.writableLength === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        this.response.off('drain', done).off('close', done);
        resolve();
      };
      this.response.on('drain', done).on('close', done);
      if (!this.response.writableNeedDrain) done();
    });
  }

  close(): void {
    if (this.open) this.response.end();
  }

  /** Also disconnects a reader that takes nothing. */
  override beat(now: number): void {
    if (!this.open) return;
    const drained = this.sentBytes - this.response.writableLength;
    if (this.response.writableLength === 0 || drained !== this.drainedBytes) {
      this.drainedBytes = drained;
      this.drainedAt = now;
    }
    if (now - this.drainedAt >= STALL_MS) this.response.destroy();
    else super.beat(now);
  }

  cork(): void {
    this.response.cork();
  }

  uncork(): void {
    this.response.uncork();
  }

  protected write(frame: Frame): void {
    this.put(frame.serverSent);
  }

  protected writeMessage(message: StreamMessage): void {
    const { type } = message;
    const retry = typeof message.retry_after_ms === 'number' ? `retry: ${message.retry_after_ms}\n` : '';
    this.put(Buffer.from(`${retry}event: ${type}\ndata: ${JSON.stringify(message)}\n\n`));
  }

  private put(bytes: Buffer): void {
    if (!this.open) return;
    if (this.response.writableLength + bytes.length > BUFFER_LIMIT) {
      this.response.destroy();
      return;
    }
    this.response.write(bytes);
    this.sentBytes += bytes.length;
  }
}
