import { Injectable } from '@nestjs/common';
import { Settings } from '../config/index.js';
import { networkOf } from './client-network.js';

/** Bytes of a body on a route that takes many things at once, at least. */
const LARGE_BODY = 10 * 1024 * 1024;
/** How many of the largest bodies fit into memory at once; one client network may hold two, callers without a credential three. */
const LARGEST_AT_ONCE = 6;
const NETWORK_SHARE = 2;
const STRANGERS_SHARE = 3;
/** Bytes that callers without a credential may hold from one network: the routes that they may call take small bodies. */
const STRANGERS_OF_A_NETWORK = 4 * 1024 * 1024;
/** What a piece of a body costs beside its bytes. */
const CHUNK_OVERHEAD = 1024;

/**
 * Bounds the memory that request bodies take in this process, from their first byte until the answer. Where callers without a credential
 * have no room left, the one whose body has been coming for the longest time makes it: bodies that never end keep nobody out.
 */
@Injectable()
export class BodyBudget {
  /** Largest body of routes that take many things at once. */
  readonly largeBody: number;
  private used = 0;
  private usedByStrangers = 0;
  private readonly usedBy = new Map<string, number>();
  /** Of callers without a credential, the oldest first. */
  private readonly arriving = new Set<BodyShare>();

  constructor({ bodyLimit }: Settings) {
    this.largeBody = Math.max(bodyLimit, LARGE_BODY);
  }

  /** The share of one request; `known` once its credential was accepted. */
  open(ip: string, known: boolean): BodyShare {
    return new BodyShare(this, networkOf(ip), known);
  }

  /** False, and nothing changes, when there is no room for the bytes. */
  take({ network, known }: BodyShare, bytes: number): boolean {
    const held = (this.usedBy.get(network) ?? 0) + bytes;
    const most = known ? NETWORK_SHARE * this.largeBody : STRANGERS_OF_A_NETWORK;
    const strangersFull = !known && this.usedByStrangers + bytes > STRANGERS_SHARE * this.largeBody;
    if (strangersFull || held > most || this.used + bytes > LARGEST_AT_ONCE * this.largeBody) return false;
    this.add(network, known, bytes);
    return true;
  }

  giveBack({ network, known }: BodyShare, bytes: number): void {
    this.add(network, known, -bytes);
  }

  arrives(share: BodyShare): void {
    if (!share.known) this.arriving.add(share);
  }

  hasArrived(share: BodyShare): void {
    this.arriving.delete(share);
  }

  /** Cuts the oldest body that is still arriving, of the same network if there is one; false when there is none. */
  cutFor(share: BodyShare): boolean {
    let oldest: BodyShare | undefined;
    for (const other of this.arriving) {
      if (other === share || !other.holdsAny) continue;
      oldest ??= other;
      if (other.network !== share.network) continue;
      oldest = other;
      break;
    }
    oldest?.cut();
    return oldest !== undefined;
  }

  private add(network: string, known: boolean, bytes: number): void {
    const held = (this.usedBy.get(network) ?? 0) + bytes;
    this.used += bytes;
    if (!known) this.usedByStrangers += bytes;
    if (held > 0) this.usedBy.set(network, held);
    else this.usedBy.delete(network);
  }
}

/** What the body of one request holds of the budget. */
export class BodyShare {
  private held = 0;
  private released = false;
  private onCut: (() => void) | undefined;

  constructor(
    private readonly budget: BodyBudget,
    readonly network: string,
    readonly known: boolean,
  ) {}

  get holdsAny(): boolean {
    return this.held > 0;
  }

  /** From now on the body may be cut to make room for another one; `onCut` must stop reading it. */
  arrives(onCut: () => void): void {
    this.onCut = onCut;
    this.budget.arrives(this);
  }

  hasArrived(): void {
    this.budget.hasArrived(this);
  }

  cut(): void {
    this.release();
    this.onCut?.();
  }

  /** Room for a piece of a body; false when there is none. */
  takeChunk(bytes: number): boolean {
    return this.take(bytes + CHUNK_OVERHEAD);
  }

  take(bytes: number): boolean {
    if (this.released) return false;
    while (!this.budget.take(this, bytes)) if (this.known || !this.budget.cutFor(this)) return false;
    this.held += bytes;
    return true;
  }

  giveBack(bytes: number): void {
    if (this.released) return;
    this.budget.giveBack(this, bytes);
    this.held -= bytes;
  }

  /** Gives everything back, for good. */
  release(): void {
    this.hasArrived();
    this.giveBack(this.held);
    this.released = true;
  }
}
