import { randomUUID } from 'node:crypto';
import { type Actor, actorHas } from '../platform/context/index.js';
import type { Frame, StreamEvent } from './stream-event.js';
import type { Subscription } from './subscription.js';

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
  private readonly known = new Map<string, boolean>();

  constructor(
    readonly actor: Actor,
    readonly face: 'websocket' | 'sse',
    /** The only channels it may listen to, when it came with a ticket for some. */
    readonly only: readonly string[] | null = null,
  ) {}

  abstract readonly open: boolean;
  /** Sends something other than an event: a confirmation, an error, a gap. */
  abstract tell(message: StreamMessage): void;
  /** Resolves when all that was sent has left the process, or the client is gone. */
  abstract flushed(): Promise<void>;
  abstract close(code: number, reason: string): void;
  /** What is sent until {@link uncork} leaves together. */
  abstract cork(): void;
  abstract uncork(): void;
  protected abstract write(frame: Frame): void;

  /** @returns about how many bytes that was */
  send(event: StreamEvent, channel: string): number {
    this.sent++;
    const frame = event.frame(channel);
    this.write(frame);
    return frame.size;
  }

  /** What its reader may not read never reaches it; an agent reads only what is its own (contract 3.2). */
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
