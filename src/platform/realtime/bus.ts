import { randomUUID } from 'node:crypto';
import { runDetached } from '../context/index.js';
import { Logger } from '../observability/index.js';

/** Carries messages between processes; each process also hears its own. */
export interface BusTransport {
  /**
   * Calls `onMessage` for every message of any process, this one included; reconnects by itself once it was connected, and calls
   * `onReconnect` then.
   */
  start(onMessage: (message: string) => void, onReconnect: () => void): Promise<void>;
  send(message: string): Promise<void>;
  stop(): Promise<void>;
  /** False while messages cannot be sent or received. */
  readonly connected: boolean;
}

interface Envelope {
  from: string;
  channel: string;
  payload: unknown;
}

type Listener = (payload: never) => unknown;

/** Not a channel between processes. */
const RECONNECTED = 'bus.reconnected';
/** NOTIFY carries less than 8000 bytes; the same limit holds for every transport, so that none works by luck. */
const MAX_BYTES = 7000;
/** Messages on their way at once; past it the other side is stuck, and memory is worth more than what may be lost. */
const MAX_SENDING = 1000;

/**
 * Tells all processes of one Nexus something small and forgettable: "agent X has work", "key Y is revoked". At most
 * once: whoever must not miss it also looks into the database.
 */
export class Bus {
  private readonly listeners = new Map<string, Set<Listener>>();
  private readonly id = randomUUID();
  private sending = 0;

  /** Without a transport (one process) the bus is local. */
  constructor(
    private readonly transport: BusTransport | null,
    private readonly logger: Logger,
  ) {}

  async start(): Promise<void> {
    await this.transport?.start(
      (message) => this.receive(message),
      () => this.tell(RECONNECTED, null),
    );
  }

  /**
   * Calls `listener` after the bus was away: messages of other processes may have been lost.
   * @returns a function that ends the subscription
   */
  onReconnect(listener: () => void): () => void {
    return this.subscribe(RECONNECTED, listener);
  }

  /**
   * Local listeners hear it before this returns, outside the request and the transaction of the caller; other processes
   * hear it soon after.
   * @throws Error when the message has more than 7000 bytes
   */
  publish(channel: string, payload: unknown): void {
    const message = JSON.stringify({ from: this.id, channel, payload } satisfies Envelope);
    const bytes = Buffer.byteLength(message);
    if (bytes > MAX_BYTES) throw new Error(`A bus message on ${channel} has ${bytes} bytes, more than ${MAX_BYTES}`);
    runDetached(() => this.tell(channel, payload));
    if (this.transport) void this.send(this.transport, channel, message);
  }

  private async send(transport: BusTransport, channel: string, message: string): Promise<void> {
    this.sending++;
    try {
      if (this.sending > MAX_SENDING) throw new Error('too many messages are on their way');
      await transport.send(message);
    } catch (error) {
      // While the transport is away, it says so itself.
      if (transport.connected) {
        this.logger.warnRepeated('bus', { channel, err: String(error) }, 'A message for other processes was lost');
      }
    } finally {
      this.sending--;
    }
  }

  private receive(message: string): void {
    let envelope: Envelope;
    try {
      envelope = JSON.parse(message) as Envelope;
    } catch {
      this.logger.warn('A message on the bus is not from Nexus');
      return;
    }
    if (envelope.from !== this.id) this.tell(envelope.channel, envelope.payload);
  }

  /** A listener that fails stops neither the others nor the publisher. */
  private tell(channel: string, payload: unknown): void {
    const failed = (error: unknown): void =>
      this.logger.error({ channel, err: String(error) }, 'A listener on the bus failed');
    for (const listener of [...(this.listeners.get(channel) ?? [])]) {
      try {
        const result = listener(payload as never);
        if (result instanceof Promise) result.catch(failed);
      } catch (error) {
        failed(error);
      }
    }
  }

  /** False while other processes hear nothing of this one, or it nothing of them. */
  get connected(): boolean {
    return this.transport?.connected ?? true;
  }

  /** @returns a function that ends the subscription */
  subscribe<T>(channel: string, listener: (payload: T) => unknown): () => void {
    const listeners = this.listeners.get(channel) ?? new Set<Listener>();
    this.listeners.set(channel, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  async stop(): Promise<void> {
    await this.transport?.stop();
  }
}
