import { randomUUID } from 'node:crypto';
import { runDetached } from '../context/index.js';
import { Logger } from '../observability/index.js';

/** Carries messages between processes. Each process also receives its own. */
export interface BusTransport {
  /**
   * Calls `onMessage` for every message of any process, this one included. After the first connection it reconnects by itself and
   * calls `onReconnect` each time.
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

/** A channel inside this process only. */
const RECONNECTED = 'bus.reconnected';
/** NOTIFY carries less than 8000 bytes. Every transport has the same limit, so that a message works with all or none of them. */
const MAX_BYTES = 7000;
/** Messages that may be in flight. Beyond it the transport is stuck and messages are dropped, so that they do not fill the memory. */
const MAX_SENDING = 1000;

/**
 * Sends small messages to all processes of one Nexus, such as "agent X has work" or "key Y is revoked". Delivery is at most once:
 * a listener that must not miss anything also checks the database.
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
   * Calls `listener` after the bus has reconnected: messages of other processes may have been lost.
   * @returns a function that ends the subscription
   */
  onReconnect(listener: () => void): () => void {
    return this.subscribe(RECONNECTED, listener);
  }

  /**
   * Local listeners run before this returns, outside the request and the transaction of the caller. Other processes
   * receive it soon after.
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
      // While it is disconnected, the transport logs that itself.
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

  /** Calls the local listeners. One that fails stops neither the others nor the publisher. */
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

  /** False while messages to or from other processes may be lost. */
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
