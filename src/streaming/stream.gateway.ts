import type { OnModuleDestroy } from '@nestjs/common';
import { type OnGatewayConnection, WebSocketGateway } from '@nestjs/websockets';
import { Semaphore } from '../platform/concurrency/index.js';
import { parseJsonBody } from '../platform/http/index.js';
import { Logger } from '../platform/observability/index.js';
import { CLOSE_GOING_AWAY, CLOSE_POLICY, type Socket, type SocketOptions } from '../platform/realtime/index.js';
import { ALL_EVENTS_SCOPE } from './channels.js';
import { StreamClient, type StreamMessage } from './stream-client.js';
import type { Frame } from './stream-event.js';
import { StreamHub } from './stream-hub.js';
import { StreamProblem } from './stream-problem.js';
import { StreamSubscriptions } from './stream-subscriptions.js';
import type { TicketGrant } from './stream-tickets.js';

const MESSAGE_LIMITS = { maxDepth: 8, maxKeys: 5000, maxValues: 10_000, maxKeyLength: 256 };
/** Largest message of a client; a larger one closes its socket (1009). */
const MAX_MESSAGE_BYTES = 1024 * 1024;
/** Pieces in which a message may come. */
const MAX_FRAGMENTS = 1024;
/** Bounds what the messages of one client cost the process. An ordinary client sends few once it has subscribed. */
const MESSAGE_RATE = { perSecond: 100, burst: 200, bytes: 8 * 1024 };
/** Messages of one client that wait or run, and their bytes. At either limit its socket is not read until half of them are done. */
const MAX_PENDING = 16;
const MAX_PENDING_BYTES = 256 * 1024;
/** The fields of each action. Others are refused: a misspelt `filters` would otherwise be ignored, and everything would be sent. */
const FIELDS = new Map<unknown, readonly string[]>([
  ['subscribe', ['channels', 'patterns', 'filters', 'subscription_id', 'since']],
  ['unsubscribe', ['channels', 'subscription_id']],
]);
/** A client is closed after this many invalid messages. */
const MOST_OFFENCES = 20;
const CLOSE_PROTOCOL_ERROR = 1002;
/** Clients of a stopping server are told to reconnect after this plus a random part of it, so that they do not all come at once. */
export const RETRY_AFTER_MS = 2000;

class SocketClient extends StreamClient {
  pending = 0;
  pendingBytes = 0;
  offences = 0;
  /** Held by the work of one message. */
  readonly mutex = new Semaphore(1);

  constructor(readonly socket: Socket) {
    super(socket.actor, 'websocket', (socket.grant as TicketGrant | undefined)?.channels ?? null);
  }

  get open(): boolean {
    return this.socket.open;
  }

  flushed(): Promise<void> {
    return this.socket.flushed();
  }

  close(code: number, reason: string): void {
    this.socket.close(code, reason);
  }

  cork(): void {
    this.socket.cork();
  }

  uncork(): void {
    this.socket.uncork();
  }

  protected write(frame: Frame): void {
    this.socket.sendBytes(frame.message);
  }

  protected writeMessage(message: StreamMessage): void {
    this.socket.send(message);
  }
}

/** The event stream over WebSockets. The plain path needs no scope beyond those of its channels. */
@WebSocketGateway({
  path: 'stream',
  aliases: [{ path: '/stream' }, { path: 'events/stream', anyOf: [ALL_EVENTS_SCOPE] }],
  anyOf: [],
  maxPayload: MAX_MESSAGE_BYTES,
  maxFragments: MAX_FRAGMENTS,
  messageRate: MESSAGE_RATE,
  perActor: Infinity,
  browsers: true,
} satisfies SocketOptions)
export class StreamGateway implements OnGatewayConnection<Socket>, OnModuleDestroy {
  constructor(
    private readonly hub: StreamHub,
    private readonly subscriptions: StreamSubscriptions,
    private readonly logger: Logger,
  ) {}

  handleConnection(socket: Socket): void {
    const client = new SocketClient(socket);
    try {
      this.hub.enter(client);
    } catch (error) {
      if (!(error instanceof StreamProblem)) throw error;
      client.tell({ type: 'error', code: error.code, message: error.message });
      client.close(CLOSE_POLICY, error.message);
      return;
    }
    socket.onClose(() => this.hub.leave(client));
    socket.onMessage((message) => this.receive(client, message));
    client.tell({ type: 'connection_established', client_id: client.id, timestamp: new Date().toISOString() });
  }

  /** Tells the clients that this process is about to close their sockets, and when to come back. */
  onModuleDestroy(): void {
    for (const client of [...this.hub.all()]) {
      if (client.face !== 'websocket') continue;
      const retry = Math.round(RETRY_AFTER_MS * (0.5 + Math.random()));
      client.tell({ type: 'draining', message: 'The server is stopping', retry_after_ms: retry });
      client.close(CLOSE_GOING_AWAY, `The server is stopping; retry after ${retry} ms`);
    }
  }

  private receive(client: SocketClient, bytes: Buffer): void {
    client.activeAt = Date.now();
    const message = parse(bytes);
    if (typeof message === 'string') {
      this.offence(client, 'BAD_MESSAGE', message);
      return;
    }
    const { action, ...wish } = message;
    const known = FIELDS.get(action);
    const unknown = known && Object.keys(wish).find((field) => !known.includes(field));
    if (unknown !== undefined) {
      const text = `${unknown.slice(0, 50)} is not known; ${action as string} takes ${known?.join(', ')}`;
      client.tell({ type: 'subscription_error', code: 'VALIDATION_ERROR', message: text });
    } else if (action === 'ping') client.tell({ type: 'pong', timestamp: new Date().toISOString() });
    else if (action === 'subscribe') this.inTurn(client, bytes, (one) => this.subscriptions.subscribe(client, one));
    else if (action === 'unsubscribe') this.inTurn(client, bytes, (one) => this.subscriptions.unsubscribe(client, one));
    else this.offence(client, 'INVALID_ACTION', 'action must be subscribe, unsubscribe or ping');
  }

  /** Handles messages one at a time, in order. Those that wait are kept as bytes: parsed they may take twenty times the memory. */
  private inTurn(client: SocketClient, bytes: Buffer, work: (wish: object) => void | Promise<void>): void {
    // Copied, because a small message is a view that would keep the whole receive buffer in memory.
    const kept = Buffer.from(bytes);
    client.pending++;
    client.pendingBytes += kept.length;
    if (client.pending >= MAX_PENDING || client.pendingBytes >= MAX_PENDING_BYTES) client.socket.pause();
    void client.mutex
      .run(() => (client.open ? work(wishOf(kept)) : undefined))
      .catch((error: unknown) => this.failed(client, error))
      .finally(() => {
        client.pending--;
        client.pendingBytes -= kept.length;
        if (client.pending <= MAX_PENDING / 2 && client.pendingBytes <= MAX_PENDING_BYTES / 2) client.socket.resume();
      });
  }

  private failed(client: SocketClient, error: unknown): void {
    if (error instanceof StreamProblem) {
      const type = error.code === 'INVALID_CHANNEL' ? 'error' : 'subscription_error';
      client.tell({ type, code: error.code, message: error.message });
      return;
    }
    this.logger.error({ err: String(error) }, 'A message of a stream client failed');
    client.tell({ type: 'subscription_error', code: 'INTERNAL_ERROR', message: 'It could not be done; try again' });
  }

  private offence(client: SocketClient, code: string, message: string): void {
    client.tell({ type: 'error', code, message });
    if (++client.offences >= MOST_OFFENCES) client.close(CLOSE_PROTOCOL_ERROR, 'Too many bad messages');
  }
}

/** Parses a message that must be a JSON object. @returns the object, or what is wrong with it as text */
function parse(bytes: Buffer): Record<string, unknown> | string {
  const parsed = parseJsonBody(bytes, MESSAGE_LIMITS);
  if ('problem' in parsed) return `${parsed.problem.path || 'The message'} ${parsed.problem.reason}`;
  const { value } = parsed;
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  return isObject ? (value as Record<string, unknown>) : 'A message is a JSON object';
}

/** Parses a message again that {@link parse} has accepted before, without its action. */
function wishOf(bytes: Buffer): object {
  const { action: _action, ...wish } = parse(bytes) as Record<string, unknown>;
  return wish;
}
