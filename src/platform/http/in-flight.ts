import type { ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { Settings } from '../config/index.js';
import { AppError } from '../errors/index.js';
import { networkOf } from './client-network.js';

const GOODBYE_MS = 100;
/** Part of the places that one client network may hold: the rest is always left to others. */
const NETWORK_SHARE = 0.75;

/** The requests being answered: bounds how many are in work at once and lets a stop wait for them. */
@Injectable()
export class InFlight {
  private readonly responses = new Set<ServerResponse>();
  /** The requests in work, each with the network it came from. */
  private readonly places = new Map<ServerResponse, string>();
  private readonly placesOf = new Map<string, number>();
  private readonly stopping = new AbortController();
  private onLeave: (() => void) | undefined;

  constructor(private readonly settings: Settings) {}

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
      this.leavePlace(response);
      this.onLeave?.();
    });
  }

  /**
   * Gives a place to a request that is complete and was let in. A client that only holds a connection open has none.
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
