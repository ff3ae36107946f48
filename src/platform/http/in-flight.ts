import type { ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { Settings } from '../config/index.js';
import { AppError } from '../errors/index.js';
import { networkOf } from './client-network.js';

const GOODBYE_MS = 100;
/** The part of all places that one client network may hold, so that some are always left for others. */
const NETWORK_SHARE = 0.75;

/** Tracks the current requests: limits how many run at once, and lets a stopping server wait for them. */
@Injectable()
export class InFlight {
  private readonly responses = new Set<ServerResponse>();
  /** The requests that hold a place, with their client networks. */
  private readonly places = new Map<ServerResponse, string>();
  private readonly placesOf = new Map<string, number>();
  private readonly stopping = new AbortController();
  private onLeave: (() => void) | undefined;

  constructor(private readonly settings: Settings) {}

  /** Aborted when the server drains. Handlers of endless answers then end them. */
  readonly draining: AbortSignal = this.stopping.signal;

  get size(): number {
    return this.responses.size;
  }

  enter(response: ServerResponse): void {
    this.responses.add(response);
    if (this.draining.aborted) response.setHeader('Connection', 'close');
    response.once('close', () => {
      this.responses.delete(response);
      this.leavePlace(response);
      this.onLeave?.();
    });
  }

  /**
   * Gives a place to a request that was admitted and has arrived completely. A client that only holds a connection open takes none.
   * @throws AppError `unavailable` when all places, or those of the client's network, are taken
   */
  takePlace(response: ServerResponse, ip: string): void {
    if (response.destroyed) return;
    const network = networkOf(ip);
    if (!this.hasPlace(network)) {
      for (const other of this.places.keys()) if (isStream(other) || other.writableEnded) this.leavePlace(other);
      if (!this.hasPlace(network)) throw AppError.unavailable('Too many requests at once; try again shortly');
    }
    this.places.set(response, network);
    this.placesOf.set(network, (this.placesOf.get(network) ?? 0) + 1);
  }

  /**
   * Asks streams to end, ends those that do not, and waits at most `graceMs` for the other requests. `onAnswered` is called
   * after each answer, when its connection may be idle.
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
    // Gives streams a moment to send a last message and end by themselves.
    await delay(GOODBYE_MS);
    for (const response of this.responses) if (isStream(response)) response.end();
    if (this.working > 0) await Promise.race([emptied, delay(graceMs, undefined, { ref: false })]);
  }

  private hasPlace(network: string): boolean {
    const { maxConcurrentRequests: limit } = this.settings;
    return this.places.size < limit && (this.placesOf.get(network) ?? 0) < Math.ceil(limit * NETWORK_SHARE);
  }

  private leavePlace(response: ServerResponse): void {
    const network = this.places.get(response);
    if (network === undefined) return;
    this.places.delete(response);
    const rest = (this.placesOf.get(network) ?? 1) - 1;
    if (rest > 0) this.placesOf.set(network, rest);
    else this.placesOf.delete(network);
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
