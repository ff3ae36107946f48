import { Injectable } from '@nestjs/common';
import { Settings } from '../config/index.js';
import { networkOf } from './client-network.js';

/** Bytes of a body on a route that takes many things at once, at least. */
const LARGE_BODY = 10 * 1024 * 1024;
/** How many of the largest bodies fit into memory at once; one client network may hold two, callers without a credential three. */
const LARGEST_AT_ONCE = 6;
const NETWORK_SHARE = 2;
const STRANGERS_SHARE = 3;
/** What a piece of a body costs beside its bytes. */
const CHUNK_OVERHEAD = 1024;

/** Bounds the memory that request bodies take in this process, from their first byte until the answer. */
@Injectable()
export class BodyBudget {
  /** Largest body of routes that take many things at once. */
  readonly largeBody: number;
  private used = 0;
  private usedByStrangers = 0;
  private readonly usedBy = new Map<string, number>();

  constructor({ bodyLimit }: Settings) {
    this.largeBody = Math.max(bodyLimit, LARGE_BODY);
  }

  /** The share of one request; `known` once its credential was accepted. */
  open(ip: string, known: boolean): BodyShare {
    return new BodyShare(this, networkOf(ip), known);
  }

  /** Adds `bytes`, negative to give them back; false, and nothing changes, when there is no room for them. */
  change(network: string, known: boolean, bytes: number): boolean {
    const held = (this.usedBy.get(network) ?? 0) + bytes;
    const strangers = this.usedByStrangers + (known ? 0 : bytes);
    const full =
      this.used + bytes > LARGEST_AT_ONCE * this.largeBody ||
      held > NETWORK_SHARE * this.largeBody ||
      (!known && strangers > STRANGERS_SHARE * this.largeBody);
    if (bytes > 0 && full) return false;
    this.used += bytes;
    this.usedByStrangers = strangers;
    if (held > 0) this.usedBy.set(network, held);
    else this.usedBy.delete(network);
    return true;
  }
}

/** What the body of one request holds of the budget. */
export class BodyShare {
  private held = 0;
  private released = false;

  constructor(
    private readonly budget: BodyBudget,
    private readonly network: string,
    private readonly known: boolean,
  ) {}

  /** Room for a piece of a body; false when there is none. */
  takeChunk(bytes: number): boolean {
    return this.take(bytes + CHUNK_OVERHEAD);
  }

  take(bytes: number): boolean {
    if (this.released || !this.budget.change(this.network, this.known, bytes)) return false;
    this.held += bytes;
    return true;
  }

  giveBack(bytes: number): void {
    if (this.released) return;
    this.budget.change(this.network, this.known, -bytes);
    this.held -= bytes;
  }

  /** Gives everything back, for good. */
  release(): void {
    this.giveBack(this.held);
    this.released = true;
  }
}
