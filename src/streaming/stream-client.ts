import { randomUUID } from 'node:crypto';
import { type Actor, actorHas } from '../platform/context/index.js';
import type { Frame, StreamEvent } from './stream-event.js';
import type { Subscription } from './subscription.js';

/** A reader to which nothing was sent for this long gets a keep-alive message. */
const KEEPALIVE_MS = 15_000;

/** A message to a client that is not an event. */
export type StreamMessage = { type: string } & Record<string, unknown>;

/** One connected reader, over a WebSocket or server-sent events. */
export abstract class StreamClient {
  readonly id = `client_${randomUUID()}`;
  readonly subscriptions = new Map<string, Subscription>();
  /** When it last had a subscription or sent a message, epoch milliseconds. */
  activeAt = Date.now();
  /** Events sent to it. */
  sent = 0;
  private saidAt = Date.now();
  private readonly known = new Map<string, boolean>();

  constructor(
    readonly actor: Actor,
    readonly face: 'websocket' | 'sse',
    /** The only channels that its ticket allows; null: all that its credential may read. */
    readonly only: readonly string[] | null = null,
  ) {}

  abstract readonly open: boolean;
  /** Resolves when everything sent so far has left the process, or the client has disconnected. */
  abstract flushed(): Promise<void>;
  abstract close(code: number, reason: string): void;
  /** Holds back what is sent until {@link uncork}, which writes it in one system call. */
  abstract cork(): void;
  abstract uncork(): void;
  protected abstract write(frame: Frame): void;
  protected abstract writeMessage(message: StreamMessage): void;

  /** Sends something other than an event: a confirmation, an error, a gap. */
  tell(message: StreamMessage): void {
    this.saidAt = Date.now();
    this.writeMessage(message);
  }

  /** Keeps the connection alive through proxies, and shows the reader that it is alive. */
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

  /** Events outside the scopes of the reader are never sent to it. An agent reads only events about itself. */
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
