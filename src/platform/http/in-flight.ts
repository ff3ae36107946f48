import type { ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';

const GOODBYE_MS = 100;

/** The requests being answered: bounds how many are in work at once (GEN-23) and lets a stop wait for them (rule 35). */
@Injectable()
export class InFlight {
  private readonly responses = new Set<ServerResponse>();
  private readonly stopping = new AbortController();
  private onLeave: (() => void) | undefined;

  /** Aborted when the server drains: handlers of endless answers end them. */
  readonly draining: AbortSignal = this.stopping.signal;

  get size(): number {
    return this.responses.size;
  }

  enter(response: ServerResponse): void {
    this.responses.add(response);
    if (this.draining.aborted) response.setHeader('Connection', 'close');
    response.once('close', () => {
      this.responses.delete(response);
      this.onLeave?.();
    });
  }

  /** True when no more than `limit` requests are in work. Open event streams hold no place. */
  hasRoom(limit: number): boolean {
    return this.responses.size < limit || this.working < limit;
  }

  /**
   * Asks streams to end, ends those that do not, and waits for the other requests, `graceMs` at most. `onAnswered` is called
   * after each answer: its connection may be idle now and wait for a next request.
   */
  async drain(graceMs: number, onAnswered: () => void): Promise<void> {
    let idle: () => void = () => undefined;
    const emptied = new Promise<void>((resolve) => (idle = resolve));
    this.onLeave = () => {
      setImmediate(onAnswered);
      if (this.working === 0) idle();
    };
    this.stopping.abort();
    for (const response of this.responses) {
      if (!response.headersSent) response.setHeader('Connection', 'close');
    }
    // A moment for streams that say goodbye by themselves.
    await delay(GOODBYE_MS);
    for (const response of this.responses) if (isStream(response)) response.end();
    if (this.working > 0) await Promise.race([emptied, delay(graceMs, undefined, { ref: false })]);
  }

  private get working(): number {
    let count = 0;
    for (const response of this.responses) if (!isStream(response)) count++;
    return count;
  }
}

function isStream(response: ServerResponse): boolean {
  return String(response.getHeader('content-type') ?? '').startsWith('text/event-stream');
}
