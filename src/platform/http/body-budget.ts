import type { IncomingHttpHeaders } from 'node:http';
import { Injectable } from '@nestjs/common';
import { Settings } from '../config/index.js';
import { networkOf } from './client-network.js';

/** Bytes of a body on a route that takes many things at once, at least. */
const LARGE_BODY = 10 * 1024 * 1024;
/** How many of the largest bodies fit into memory at once; one client network or one principal may hold two, callers without a credential three. */
const LARGEST_AT_ONCE = 6;
const ONE_SHARE = 2;
const STRANGERS_SHARE = 3;
/** Bytes that callers without a credential may hold from one network: the routes that they may call take small bodies. */
const STRANGERS_OF_A_NETWORK = 4 * 1024 * 1024;
/** What a piece of a body costs beside its bytes. */
const CHUNK_OVERHEAD = 1024;
/** A body that announces no more than this is small: it has room of its own, which large ones cannot take, once for callers with a credential and once for others. */
const SMALL_BODY = 16 * 1024;
const SMALL_BODY_HELD = 2 * SMALL_BODY;
const RESERVE = 500 * SMALL_BODY_HELD;
/** A body that comes slower than this, once it had time to start, is cut before any other. */
const SLOW_BYTES_PER_SECOND = 10_000;
const TIME_TO_START_MS = 5000;

/**
 * Bounds the memory that request bodies take in this process, from their first byte until the answer. Where callers without a credential
 * have no room left, the one whose body has been coming for the longest time makes it: bodies that never end keep nobody out. For
 * callers with a credential, only bodies that come too slowly are cut.
 */
@Injectable()
export class BodyBudget {
  /** Largest body of routes that take many things at once. */
  readonly largeBody: number;
  private used = 0;
  private usedByStrangers = 0;
  private readonly usedBy = new Map<string, number>();
  private readonly usedByPrincipal = new Map<string, number>();
  private readonly reserveUsed = { known: 0, strangers: 0 };
  /** The oldest first. */
  private readonly arriving = new Set<BodyShare>();

  constructor({ bodyLimit }: Settings) {
    this.largeBody = Math.max(bodyLimit, LARGE_BODY);
  }

  /** The share of one request; `principal` once its credential was accepted. */
  open(ip: string, principal: string | undefined, headers: IncomingHttpHeaders = {}): BodyShare {
    const small = headers['content-encoding'] === undefined && Number(headers['content-length']) <= SMALL_BODY;
    return new BodyShare(this, networkOf(ip), principal, small);
  }

  /** Takes the bytes, or says whose bodies would have to make room; nothing changes then. */
  take(share: BodyShare, bytes: number): ((other: BodyShare) => boolean) | undefined {
    const { network, principal, known } = share;
    const most = known ? ONE_SHARE * this.largeBody : STRANGERS_OF_A_NETWORK;
    if ((this.usedBy.get(network) ?? 0) + bytes > most) return (other) => other.network === network;
    if (principal !== undefined && (this.usedByPrincipal.get(principal) ?? 0) + bytes > most) {
      return (other) => other.principal === principal;
    }
    if (!known && this.usedByStrangers + bytes > STRANGERS_SHARE * this.largeBody) return (other) => !other.known;
    if (this.used + bytes > LARGEST_AT_ONCE * this.largeBody) return () => true;
    this.add(share, bytes);
    return undefined;
  }

  giveBack(share: BodyShare, bytes: number): void {
    this.add(share, -bytes);
  }

  /** False, and nothing changes, when the room for small bodies is taken. */
  takeReserve({ known }: BodyShare, bytes: number): boolean {
    const kind = known ? 'known' : 'strangers';
    if (this.reserveUsed[kind] + bytes > RESERVE) return false;
    this.reserveUsed[kind] += bytes;
    return true;
  }

  giveBackReserve({ known }: BodyShare, bytes: number): void {
    this.reserveUsed[known ? 'known' : 'strangers'] -= bytes;
  }

  arrives(share: BodyShare): void {
    this.arriving.add(share);
  }

  hasArrived(share: BodyShare): void {
    this.arriving.delete(share);
  }

  /** Cuts one body that is still arriving and may make room: a slow one, else the oldest stranger's for a stranger, of the same network if there is one. */
  cutFor(share: BodyShare, mayMakeRoom: (other: BodyShare) => boolean): boolean {
    let oldest: BodyShare | undefined;
    let neighbour: BodyShare | undefined;
    const now = performance.now();
    for (const other of this.arriving) {
      if (other === share || !other.holdsAny || (!share.known && other.known) || !mayMakeRoom(other)) continue;
      if (other.isSlow(now)) {
        other.cut();
        return true;
      }
      oldest ??= other;
      if (other.network === share.network) neighbour ??= other;
    }
    if (share.known) return false;
    const found = neighbour ?? oldest;
    found?.cut();
    return found !== undefined;
  }

  private add({ network, principal, known }: BodyShare, bytes: number): void {
    this.used += bytes;
    if (!known) this.usedByStrangers += bytes;
    addTo(this.usedBy, network, bytes);
    if (principal !== undefined) addTo(this.usedByPrincipal, principal, bytes);
  }
}

function addTo(held: Map<string, number>, holder: string, bytes: number): void {
  const now = (held.get(holder) ?? 0) + bytes;
  if (now > 0) held.set(holder, now);
  else held.delete(holder);
}

/** What the body of one request holds of the budget. */
export class BodyShare {
  private held = 0;
  private reserved = 0;
  private received = 0;
  private since = 0;
  private released = false;
  private onCut: (() => void) | undefined;

  constructor(
    private readonly budget: BodyBudget,
    readonly network: string,
    readonly principal: string | undefined,
    private readonly small: boolean,
  ) {}

  get known(): boolean {
    return this.principal !== undefined;
  }

  get holdsAny(): boolean {
    return this.held > 0;
  }

  isSlow(now: number): boolean {
    const ms = now - this.since;
    return ms > TIME_TO_START_MS && this.received * 1000 < ms * SLOW_BYTES_PER_SECOND;
  }

  /** From now on the body may be cut to make room for another one; `onCut` must stop reading it. */
  arrives(onCut: () => void): void {
    this.onCut = onCut;
    this.since = performance.now();
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
    this.received += bytes;
    return this.take(bytes + CHUNK_OVERHEAD);
  }

  take(bytes: number): boolean {
    if (this.released) return false;
    if (this.small && this.reserved + bytes <= SMALL_BODY_HELD && this.budget.takeReserve(this, bytes)) {
      this.reserved += bytes;
      return true;
    }
    let mayMakeRoom = this.budget.take(this, bytes);
    while (mayMakeRoom) {
      if (!this.budget.cutFor(this, mayMakeRoom)) return false;
      mayMakeRoom = this.budget.take(this, bytes);
    }
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
    this.budget.giveBackReserve(this, this.reserved);
    this.reserved = 0;
    this.released = true;
  }
}
