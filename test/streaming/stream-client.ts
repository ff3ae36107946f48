import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import WebSocket from 'ws';
import { AgentStatusChanged } from '../../src/agents/agents.events.js';
import { CommandCompleted } from '../../src/commands/commands.events.js';
import { Database } from '../../src/platform/database/index.js';
import { EventBus } from '../../src/platform/events/index.js';
import { eventually, type TestApp } from '../support/app.js';

export const STREAM = '/api/v1/stream';

export type Message = { type: string; id?: string; channel?: string; data?: Record<string, unknown> } & Record<
  string,
  unknown
>;

/** A bare client of the event stream. */
export class StreamReader {
  readonly messages: Message[] = [];
  closed: { code: number; reason: string } | undefined;

  constructor(readonly ws: WebSocket) {
    ws.on('message', (data: Buffer) => this.messages.push(JSON.parse(data.toString()) as Message));
    ws.on('close', (code, reason) => (this.closed = { code, reason: reason.toString() }));
    ws.on('error', () => undefined);
  }

  static connect(url: string, key: string | null, path = STREAM, options: WebSocket.ClientOptions = {}): StreamReader {
    const headers = { ...(key ? { authorization: `Bearer ${key}` } : {}), ...options.headers };
    return new StreamReader(new WebSocket(url.replace('http', 'ws') + path, { ...options, headers }));
  }

  /** Connects, and subscribes when a wish is given; resolves with the confirmation. */
  static async open(url: string, key: string, wish?: object): Promise<StreamReader> {
    const reader = StreamReader.connect(url, key);
    await once(reader.ws, 'open');
    await reader.next('connection_established');
    if (wish) await reader.subscribe(wish);
    return reader;
  }

  say(message: unknown): void {
    this.ws.send(typeof message === 'string' ? message : JSON.stringify(message));
  }

  async subscribe(wish: object): Promise<Message> {
    const before = this.messages.length;
    this.say({ action: 'subscribe', ...wish });
    return eventually(() =>
      this.messages.slice(before).find(({ type }) => /^(subscription_(confirmed|error)|error)$/.test(type)),
    );
  }

  /** The first message of a type, now or soon. */
  next(type: string): Promise<Message> {
    return eventually(() => this.messages.find((message) => message.type === type));
  }

  get events(): Message[] {
    return this.messages.filter(({ type }) => type === 'event');
  }

  /** Numbers of the test events received, see {@link agentEvents}. */
  get numbers(): number[] {
    return this.events.map(numberOf);
  }

  end(): Promise<{ code: number; reason: string }> {
    return eventually(() => this.closed);
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.ws.terminate();
    await this.end();
  }
}

export function numberOf({ data }: Message): number {
  return Number(String(data?.agent_name).slice(1));
}

/** Publishes numbered events of one agent, each in a transaction of its own or all in one. */
export async function agentEvents(
  app: TestApp,
  from: number,
  to: number,
  { agentId = `agent_${randomUUID()}`, together = false } = {},
): Promise<void> {
  const events = Array.from({ length: to - from }, (_, i) => ({
    event: AgentStatusChanged,
    subject: agentId,
    data: { agent_id: agentId, agent_name: `n${from + i}`, status: 'active', previous_status: 'offline' },
  }));
  for (const group of together ? [events] : events.map((event) => [event])) {
    await app.get(Database).transaction((tx) => app.get(EventBus).publishMany(tx, group));
  }
}

export async function commandEvent(app: TestApp, over: Record<string, unknown> = {}): Promise<void> {
  const id = `cmd_${randomUUID()}`;
  const data = {
    command_id: id,
    command_type: 'system.ping',
    target: 'web-1',
    agent_id: null,
    parent_id: null,
    source: 'web-1',
    priority: 'normal',
    status: 'completed',
    substatus: 'completed',
    ...over,
  };
  await app
    .get(Database)
    .transaction((tx) => app.get(EventBus).publishMany(tx, [{ event: CommandCompleted, subject: id, data }]));
}

export async function telemetry(app: TestApp, key: string, events: object[]): Promise<void> {
  const { status, text } = await app.call('POST', '/api/v1/telemetry/batch', { key, body: { events } });
  if (status !== 202) throw new Error(text);
}

export const metric = (over: Record<string, unknown> = {}, value = 1): Record<string, unknown> => ({
  event_type: 'system.metric',
  source: 'web-1',
  data: { metric_name: 'cpu', value, tags: { host: 'a' } },
  ...over,
});
