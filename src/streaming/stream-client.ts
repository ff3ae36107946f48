import { randomUUID } from 'node:crypto';
import { type Actor, actorHas } from '../platform/context/index.js';
import type { Frame, StreamEvent } from './stream-event.js';
import type { Subscription } from './subscription.js';

/** A reader that hears nothing else for this long is told that the connection lives. */
const KEEPALIVE_MS = 15_000;

/** Something a client is told that is no event. */
export type StreamMessage = { type: string } & Record<string, unknown>;

/** One connected reader, over a WebSocket or server-sent events. */
export abstract class StreamClient {
  readonly id = `client_${randomUUID()}`;
  readonly subscriptions = new Map<string, Subscription>();
  /** When it last had a subscription or said something, epoch milliseconds. */
  activeAt = Date.now();
  /** Events sent to it. */
  sent = 0;
  private saidAt = Date.now();
  private readonly known = new Map<string, boolean>();

  constructor(
    readonly actor: Actor,
    readonly face: 'websocket' | 'sse',
    /** The only channels it may listen to, when it came with a ticket for some. */
    readonly only: readonly string[] | null = null,
  ) {}

  abstract readonly open: boolean;
  /** Resolves when all that was sent has left the process, or the client is gone. */
  abstract flushed(): Promise<void>;
  abstract close(code: number, reason: string): void;
  /** What is sent until {@link uncork} leaves together. */
  abstract cork(): void;
  abstract uncork(): void;
  protected abstract write(frame: Frame): void;
  protected abstract writeMessage(message: StreamMessage): void;

  /** Sends something other than an event: a confirmation, an error, a gap. */
  tell(message: StreamMessage): void {
    this.saidAt = Date.now();
    this.writeMessage(message);
  }

  /** Keeps the connection alive through proxies, and shows a reader that it is. */
  beat(now: number): void {
    if (this.open && now - this.saidAt >= KEEPALIVE_MS) {
      this.tell({ type: 'keepalive', timestamp: new Date(now).toISOString() });
    }
  }

  /** @returns about how many bytes that was */
  send(event: StreamEvent, channel: string, id = event.id): number {
    this.sent++;
    this.saidAt = Date.now();
    const frame = event.frame(channel, id);
    this.write(frame);
    return frame.size;
  }

  /** What its reader may not read never reaches it; an agent reads only what is its own. */
  mayRead(event: StreamEvent): boolean {
    const { scope } = event;
    let may = this.known.get(scope);
    if (may === undefined) {
      may = actorHas(this.actor, scope);
      this.known.set(scope, may);
    }
    return may && (this.actor.type !== 'agent' || event.isOf(this.actor));
  }
}
