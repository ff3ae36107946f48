import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import type { Actor } from '../context/index.js';

/** Bytes that may wait for a slow reader. The socket is closed when another message would go beyond it. */
const BUFFER_LIMIT = 1024 * 1024;
const PING_MS = 25_000;
const SILENCE_MS = 60_000;
/** A reader that has taken nothing for this long is disconnected, however little waits for it. */
const STALL_MS = 25_000;
/** A peer that has not answered a close frame after this is disconnected. */
const CLOSE_GRACE_MS = 1000;
const TEXT = { binary: false };

export const CLOSE_GOING_AWAY = 1001;
export const CLOSE_POLICY = 1008;
export const CLOSE_OVERLOADED = 1013;

/** How fast the messages of one peer are read. */
export interface MessageRate {
  perSecond: number;
  /** Messages that may arrive at once after a pause. */
  burst: number;
  /** A message of more bytes than this counts as several, one for each such part. */
  bytes: number;
}

/** One accepted WebSocket with its actor and a bounded send buffer. */
export class Socket {
  /** When the peer last sent a message or a pong, epoch milliseconds. */
  heardAt = Date.now();
  private pingedAt = Date.now();
  private sentBytes = 0;
  private drainedBytes = 0;
  private drainedAt = Date.now();
  /** Messages that may still be read. Below zero, reading pauses until enough time has passed. */
  private allowance: number;
  private allowanceAt = performance.now();
  /** True while the owner of the socket has paused reading, or its messages came too fast. */
  private paused = false;
  private throttled = false;

  constructor(
    private readonly ws: WebSocket,
    /** The TCP or TLS connection below. */
    private readonly stream: Duplex,
    readonly actor: Actor,
    /** The limits of the ticket that opened it, if there was one. */
    readonly grant?: unknown,
    private readonly rate?: MessageRate,
  ) {
    this.allowance = rate?.burst ?? 0;
    const heard = (): void => {
      this.heardAt = Date.now();
    };
    ws.on('message', heard);
    ws.on('pong', heard);
    // Ignored, because a close event follows every error.
    ws.on('error', () => undefined);
  }

  get open(): boolean {
    return this.ws.readyState === this.ws.OPEN;
  }

  /** Sends one JSON message. False when the socket is not open, or was closed now because its reader is too slow. */
  send(message: object): boolean {
    return this.sendBytes(Buffer.from(JSON.stringify(message)));
  }

  /** Like {@link send}, with a message that is serialised already, so that a message to many readers is serialised once. */
  sendBytes(bytes: Buffer): boolean {
    if (!this.open) return false;
    if (this.ws.bufferedAmount + bytes.length > BUFFER_LIMIT) {
      this.close(CLOSE_OVERLOADED, 'The reader is too slow');
      return false;
    }
    this.ws.send(bytes, TEXT);
    this.sentBytes += bytes.length;
    return true;
  }

  /** Holds back what is sent until {@link uncork}, so that it takes one system call instead of one for each message. */
  cork(): void {
    this.stream.cork();
  }

  uncork(): void {
    this.stream.uncork();
  }

  /** Resolves when everything sent so far has left the process, or the socket is closed. */
  flushed(): Promise<void> {
    if (!this.open || this.ws.bufferedAmount === 0) return Promise.resolve();
    // A pong may be sent at any time (RFC 6455, 5.5.3), and its callback runs after everything sent before has been written.
    return new Promise((resolve) => this.ws.pong('', false, () => resolve()));
  }

  /** Calls `listener` with the bytes of each text message; a binary one closes the socket (1003). */
  onMessage(listener: (message: Buffer) => void): void {
    this.ws.on('message', (data, isBinary) => {
      if (isBinary) this.close(1003, 'Only text messages');
      else if (this.open) {
        this.spend((data as Buffer).length);
        listener(data as Buffer);
      }
    });
  }

  onClose(listener: (code: number) => void): void {
    this.ws.once('close', listener);
  }

  /** Stops reading until {@link resume}. TCP flow control then slows the peer down. */
  pause(): void {
    this.paused = true;
    this.ws.pause();
  }

  resume(): void {
    this.paused = false;
    if (!this.throttled) this.ws.resume();
  }

  close(code: number, reason: string): void {
    if (this.ws.readyState === this.ws.CLOSED) return;
    // A paused socket would never see the peer's close frame.
    this.ws.resume();
    this.ws.close(code, reason);
    setTimeout(() => this.ws.terminate(), CLOSE_GRACE_MS).unref();
  }

  /** The regular check of one socket: pings the peer, and closes the socket when the peer is silent or takes nothing. */
  beat(now: number): void {
    if (!this.open) return;
    // While reading is paused, pongs are not read either, so that silence means nothing.
    if (this.ws.isPaused) this.heardAt = now;
    const drained = this.sentBytes - this.ws.bufferedAmount;
    if (this.ws.bufferedAmount === 0 || drained !== this.drainedBytes) {
      this.drainedBytes = drained;
      this.drainedAt = now;
    }
    if (now - this.heardAt >= SILENCE_MS) this.ws.terminate();
    else if (now - this.drainedAt >= STALL_MS) this.close(CLOSE_OVERLOADED, 'The reader is too slow');
    else if (now - this.pingedAt >= PING_MS) {
      this.pingedAt = now;
      this.ws.ping();
    }
  }

  /** Counts a message. Messages that were received before reading paused still arrive, and make the pause longer. */
  private spend(bytes: number): void {
    if (!this.rate) return;
    this.refill(this.rate);
    this.allowance -= Math.max(1, bytes / this.rate.bytes);
    if (this.allowance >= 0 || this.throttled) return;
    this.throttled = true;
    this.ws.pause();
    this.waitForAllowance(this.rate);
  }

  private waitForAllowance(rate: MessageRate): void {
    setTimeout(
      () => {
        this.refill(rate);
        if (this.allowance < 0 && this.open) {
          this.waitForAllowance(rate);
          return;
        }
        this.throttled = false;
        if (!this.paused) this.ws.resume();
      },
      Math.ceil((-this.allowance / rate.perSecond) * 1000),
    ).unref();
  }

  private refill({ perSecond, burst }: MessageRate): void {
    const now = performance.now();
    this.allowance = Math.min(burst, this.allowance + ((now - this.allowanceAt) / 1000) * perSecond);
    this.allowanceAt = now;
  }
}
