import type { OnModuleDestroy } from '@nestjs/common';
import { type OnGatewayConnection, WebSocketGateway } from '@nestjs/websockets';
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
/** Messages of one client in work; at the limit its socket is not read until half of them are done. */
const MOST_PENDING = 16;
/** What an action takes: a filter with a slip in its name must not be no filter. */
const FIELDS = new Map<unknown, readonly string[]>([
  ['subscribe', ['channels', 'patterns', 'filters', 'subscription_id', 'since']],
  ['unsubscribe', ['channels', 'subscription_id']],
]);
/** Messages of one client that make no sense before it is closed. */
const MOST_OFFENCES = 20;
const CLOSE_PROTOCOL_ERROR = 1002;
/** Clients of a stopping server come back after this and a random part of it, so that they do not come all at once. */
export const RETRY_AFTER_MS = 2000;

class SocketClient extends StreamClient {
  pending = 0;
  offences = 0;
  /** Ends with the newest message's work. */
  last: Promise<void> = Promise.resolve();

  constructor(readonly socket: Socket) {
    super(socket.actor, 'websocket', (socket.grant as TicketGrant | undefined)?.channels ?? null);
  }

  get open(): boolean {
    return this.socket.open;
  }

  tell(message: StreamMessage): void {
    this.socket.send(message);
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
}

/** The event stream over WebSockets. A plain stream asks for the scopes of its channels alone. */
@WebSocketGateway({
  path: 'stream',
  aliases: [{ path: '/stream' }, { path: 'events/stream', anyOf: [ALL_EVENTS_SCOPE] }],
  anyOf: [],
  maxPayload: 256 * 1024,
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

  /** Tells the clients that this process is about to close their sockets, and when to come back (row STR-14). */
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
    const parsed = parseJsonBody(bytes, MESSAGE_LIMITS);
    if ('problem' in parsed) {
      const { path, reason } = parsed.problem;
      this.offence(client, 'BAD_MESSAGE', `${path || 'The message'} ${reason}`);
      return;
    }
    const message = parsed.value;
    if (typeof message !== 'object' || message === null || Array.isArray(message)) {
      this.offence(client, 'BAD_MESSAGE', 'A message is a JSON object');
      return;
    }
    const { action, ...wish } = message as Record<string, unknown>;
    const known = FIELDS.get(action);
    const unknown = known && Object.keys(wish).find((field) => !known.includes(field));
    if (unknown !== undefined) {
      const text = `${unknown.slice(0, 50)} is not known; ${action as string} takes ${known?.join(', ')}`;
      client.tell({ type: 'subscription_error', code: 'VALIDATION_ERROR', message: text });
    } else if (action === 'ping') client.tell({ type: 'pong', timestamp: new Date().toISOString() });
    else if (action === 'subscribe') this.inTurn(client, () => this.subscriptions.subscribe(client, wish));
    else if (action === 'unsubscribe') this.inTurn(client, () => this.subscriptions.unsubscribe(client, wish));
    else this.offence(client, 'INVALID_ACTION', 'action must be subscribe, unsubscribe or ping');
  }

  /** One after the other, in the order they came. */
  private inTurn(client: SocketClient, work: () => void | Promise<void>): void {
    if (++client.pending >= MOST_PENDING) client.socket.pause();
    client.last = client.last
      .then(() => (client.open ? work() : undefined))
      .catch((error: unknown) => this.failed(client, error))
      .finally(() => {
        if (--client.pending === MOST_PENDING / 2) client.socket.resume();
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
