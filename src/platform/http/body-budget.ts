import type { IncomingHttpHeaders } from 'node:http';
import { Injectable } from '@nestjs/common';
import { Settings } from '../config/index.js';
import { networkOf } from './client-network.js';

/** Smallest body limit of routes that take many items at once. */
const LARGE_BODY = 10 * 1024 * 1024;
/**
 * The memory for bodies, counted in largest bodies: for all together, for one client network or principal, and for all callers
 * without a credential.
 */
const LARGEST_AT_ONCE = 6;
const ONE_SHARE = 2;
const STRANGERS_SHARE = 3;
/** Bytes that callers without a credential may hold from one network. The routes that they may call take small bodies. */
const STRANGERS_OF_A_NETWORK = 4 * 1024 * 1024;
/** Memory that each chunk of a body takes beyond its bytes. */
const CHUNK_OVERHEAD = 1024;
/**
 * A body whose `Content-Length` is at most this is small. Small bodies have a reserve that large ones cannot use: one for callers
 * with a credential and one for those without.
 */
const SMALL_BODY = 16 * 1024;
const SMALL_BODY_HELD = 2 * SMALL_BODY;
const RESERVE = 500 * SMALL_BODY_HELD;
/** A body that arrives more slowly than this after {@link TIME_TO_START_MS} is cut before any other. */
const SLOW_BYTES_PER_SECOND = 10_000;
const TIME_TO_START_MS = 5000;

/**
 * Bounds the memory that request bodies take in this process, from their first byte until the answer. When callers without a
 * credential have no room left, the oldest of their unfinished bodies is cut, so that bodies that never end cannot keep others out. To
 * make room for callers with a credential, only bodies that arrive too slowly are cut.
 */
@Injectable()
export class BodyBudget {
  /** Largest body of routes that take many items at once. */
  readonly largeBody: number;
  private used = 0;
  private usedByStrangers = 0;
  private readonly usedBy = new Map<string, number>();
  private readonly usedByPrincipal = new Map<string, number>();
  private readonly reserveUsed = { known: 0, strangers: 0 };
  /** Unfinished bodies, the oldest first. */
  private readonly arriving = new Set<BodyShare>();

  constructor({ bodyLimit }: Settings) {
    this.largeBody = Math.max(bodyLimit, LARGE_BODY);
  }

  /** Opens the share of one request. `principal` is set when its credential was accepted. */
  open(ip: string, principal: string | undefined, headers: IncomingHttpHeaders = {}): BodyShare {
    const small = headers['content-encoding'] === undefined && Number(headers['content-length']) <= SMALL_BODY;
    return new BodyShare(this, networkOf(ip), principal, small);
  }

  /** Takes the bytes. When there is no room, takes nothing and returns which bodies may be cut to make room. */
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

  /** Takes the bytes from the reserve for small bodies. False, and nothing is taken, when it is used up. */
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

  /**
   * Cuts one unfinished body that may make room: a slow one, or else, for a caller without a credential, the oldest body of such a
   * caller, of the same network if there is one. @returns false when there is none
   */
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

/** The part of the budget that the body of one request holds. */
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

  /** Starts to read the body. From now on it may be cut to make room for another; `onCut` must then stop reading. */
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

  /** Takes room for a chunk of the body. False when there is none. */
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

  /** Returns all room and ends the share. */
  release(): void {
    this.hasArrived();
    this.giveBack(this.held);
    this.budget.giveBackReserve(this, this.reserved);
    this.reserved = 0;
    this.released = true;
  }
}
