import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CommandQueued } from '../../src/commands/commands.events.js';
import { EventBus } from '../../src/platform/events/index.js';
import { JobQueue } from '../../src/platform/jobs/index.js';
import { UserCreated } from '../../src/security/security.events.js';
import { actor, type TestActor } from '../support/actors.js';
import { type Answer, eventually, startTestApp, type TestApp } from '../support/app.js';
import { payloadOf, Receiver } from '../webhooks/receiver.js';
import type { EmittedEvent, Envelope } from './harness.js';

const LONG = 25_000;

interface Listed {
  events: EmittedEvent[];
  pagination: { total: number; has_more: boolean; next_cursor: string | null };
  filters_applied: Record<string, string>;
}

let app: TestApp;
let admin: TestActor;
let receiver: Receiver;
/** A namespace of one test. */
let own: string;

beforeAll(async () => {
  app = await startTestApp({ NEXUS_EGRESS_ALLOW: '127.0.0.1' });
  admin = await actor(app);
  receiver = await Receiver.start();
});
afterAll(async () => {
  await receiver.stop();
  await app.stop();
});
beforeEach(() => {
  own = `t${randomUUID().replaceAll('-', '')}`;
});

function post(
  body: object,
  options: { key?: string; headers?: Record<string, string> } = {},
): Promise<Answer<Envelope<{ event: EmittedEvent }>>> {
  return app.call('POST', '/api/v1/events', { key: admin.key, ...options, body });
}

async function emit(type: string, extra: object = {}): Promise<EmittedEvent> {
  const answer = await post({ type, data: { n: 1 }, ...extra });
  expect(answer.status, answer.text).toBe(201);
  return answer.body.data.event;
}

function get<Data = Listed>(path: string, key = admin.key): Promise<Answer<Envelope<Data>>> {
  return app.call('GET', `/api/v1/events${path}`, { key });
}

async function list(query: string, key = admin.key): Promise<Listed> {
  const answer = await get(`?${query}`, key);
  expect(answer.status, answer.text).toBe(200);
  return answer.body.data;
}

const typesOf = ({ events }: Listed): string[] => events.map(({ type }) => type);

describe('a list of large events', () => {
  it('ends a page after about 4 MB, and goes on by its cursor', async () => {
    const data = { text: 'x'.repeat(60_000) };
    for (let n = 0; n < 10; n++) await Promise.all(Array.from({ length: 10 }, () => emit(`${own}.large`, { data })));
    const seen: string[] = [];
    for (let cursor: string | null = ''; cursor !== null;) {
      const { events, pagination }: Listed = await list(`event_type=${own}.large&limit=100&cursor=${cursor}`);
      expect(JSON.stringify(events).length).toBeLessThan(4.5 * 1024 * 1024);
      expect(pagination.has_more).toBe(pagination.next_cursor !== null);
      seen.push(...events.map(({ event_id }) => event_id));
      cursor = pagination.next_cursor;
    }
    expect([seen.length, new Set(seen).size]).toEqual([100, 100]);
  });
});

describe('emitting an event', () => {
  it('takes the request of the first description and stores it', async () => {
    const answer = await post({ type: 'user.registered', data: { user_id: 'user_123', username: 'new_user' } });
    expect(answer.status).toBe(201);
    const { event } = answer.body.data;
    expect(event).toMatchObject({
      type: 'user.registered',
      event_type: 'user.registered',
      status: 'pending',
      priority: 'normal',
      source: `user_${admin.userId}`,
      subscriber_count: 0,
    });
    const shown = await get<{ event: EmittedEvent; delivery_info: object }>(`/${event.event_id}`);
    expect(shown.body.data.event).toMatchObject({ data: { user_id: 'user_123', username: 'new_user' } });
    expect(shown.body.data.delivery_info).toMatchObject({ total: 0, deliveries: [] });
  });

  it('keeps all that is said of it', async () => {
    const said = {
      source: 'shop',
      metadata: { region: 'eu' },
      priority: 'critical',
      correlation_id: 'c-1',
      expires_at: '2099-01-01T00:00:00.000Z',
    };
    const { event_id } = await emit(`${own}.created`, said);
    const { body } = await get<{ event: EmittedEvent }>(`/${event_id}`);
    expect(body.data.event).toMatchObject({ ...said, data: { n: 1 }, actor_id: `user_${admin.userId}` });
  });

  it('takes null for what may be left out', async () => {
    const left = { source: null, metadata: null, priority: null, correlation_id: null, expires_at: null };
    const event = await emit(`${own}.created`, left);
    expect(event).toMatchObject({ source: `user_${admin.userId}`, priority: 'normal', correlation_id: null });
  });

  it('takes type or event_type, and both only when they agree', async () => {
    const type = `${own}.created`;
    expect((await post({ event_type: type, data: {} })).status).toBe(201);
    expect((await post({ type, event_type: type, data: {} })).status).toBe(201);
    for (const body of [{ type, event_type: `${own}.other`, data: {} }, { data: {} }]) {
      const refused = await post(body);
      expect(refused.status).toBe(400);
      expect(refused.body.error.details[0].field).toMatch(/type/);
    }
  });

  it.each([
    ['medium', 'normal'],
    [1, 'low'],
    [2, 'low'],
    [3, 'normal'],
    [5, 'normal'],
    [6, 'high'],
    [8, 'high'],
    [9, 'critical'],
    [10, 'critical'],
  ])('takes the priority %s as %s, and finds it by both', async (priority, word) => {
    const type = `${own}.with_priority`;
    const { body, status } = await post({ type, data: {}, priority, correlation_id: `of-${priority}` });
    expect(status).toBe(201);
    expect(body).toMatchObject({ data: { event: { priority: word } } });
    for (const spelling of [priority, word]) {
      const found = await list(`event_type=${type}&correlation_id=of-${priority}&priority=${spelling}`);
      expect(found.events).toMatchObject([{ priority: word }]);
    }
  });

  it.each([
    ['priority', { type: 'orders.created', data: {}, priority: 0 }],
    ['priority', { type: 'orders.created', data: {}, priority: 11 }],
    ['priority', { type: 'orders.created', data: {}, priority: 5.5 }],
    ['priority', { type: 'orders.created', data: {}, priority: [5] }],
    ['type', { type: 'Orders.Created', data: {} }],
    ['type', { type: 'orders', data: {} }],
    ['data', { type: 'orders.created' }],
    ['data', { type: 'orders.created', data: [1] }],
    ['priority', { type: 'orders.created', data: {}, priority: 'urgent' }],
    ['expires_at', { type: 'orders.created', data: {}, expires_at: 'tomorrow' }],
    ['expires_at', { type: 'orders.created', data: {}, expires_at: '2020-01-01T00:00:00Z' }],
    ['source', { type: 'orders.created', data: {}, source: 'nexus' }],
    ['source', { type: 'orders.created', data: {}, source: 'hook:shop' }],
    ['source', { type: 'orders.created', data: {}, source: '' }],
    ['color', { type: 'orders.created', data: {}, color: 'red' }],
  ])('refuses a wrong %s: %j', async (field, body) => {
    const refused = await post(body);
    expect(refused.status).toBe(400);
    expect(refused.body.error.details[0].field).toBe(field);
  });

  it.each(['user.login', 'task.completed', 'command.whatever', 'telemetry.alert'])(
    'leaves %s to the server itself',
    async (type) => {
      const refused = await post({ type, data: {} });
      expect(refused.status).toBe(403);
      expect(refused.body.error.code).toBe('EVENT_TYPE_RESERVED');
      expect(refused.body.error.message).toContain(type);
      expect((await list(`event_type=${type}&source=user_${admin.userId}`)).events).toEqual([]);
    },
  );

  it('lets callers say user.created, as the first example of the SDK does, and tells it from the server’s own', async () => {
    const [any, servers] = await Promise.all(
      [undefined, { source: 'nexus' }].map(async (filters) => {
        const path = `/${randomUUID()}`;
        const body = { url: receiver.url(path), events: ['user.created'], filters };
        const { status, body: made } = await app.call<{ webhook_id: string }>('POST', '/api/v1/webhooks', {
          key: admin.key,
          body,
        });
        expect(status).toBe(201);
        return { path, id: made.webhook_id };
      }),
    );
    const event = await emit('user.created', { data: { userId: '123', username: 'john_doe' } });
    expect(event.source).toBe(`user_${admin.userId}`);
    const user_id = `user_${randomUUID()}`;
    const own = { user_id, username: 'jane', roles: [] };
    await app.db.transaction((tx) => app.get(EventBus).publish(tx, UserCreated, user_id, own));
    await eventually(() => receiver.at(any.path).length === 2 && receiver.at(servers.path).length === 1);
    const sources = receiver.at(any.path).map((one) => (payloadOf(one) as unknown as { source: string }).source);
    expect(sources.sort()).toEqual(['nexus', event.source].sort());
    expect(payloadOf(receiver.at(servers.path)[0]).data).toEqual(own);
    for (const { id } of [any, servers]) await app.call('DELETE', `/api/v1/webhooks/${id}`, { key: admin.key });
  });

  it('of a kind that the server acts on moves the server to nothing, however it came into the outbox', async () => {
    const command_id = `cmd_${randomUUID()}`;
    const data = { command_id, command_type: 'x', target: 'x', agent_id: null, parent_id: null, source: 'x' };
    const told = { ...data, priority: 'normal', status: 'queued', substatus: 'queued' } as const;
    await app.db.query(
      `INSERT INTO events (id, type, data, actor_id, source) VALUES (gen_random_uuid(), 'command.queued', $1, 'user_1', 'shop')`,
      [JSON.stringify(told)],
    );
    await app.db.transaction((tx) => app.get(EventBus).publish(tx, CommandQueued, command_id, told));
    const jobs = await eventually(async () => {
      const rows = await app.db.query<{ id: string }>(
        `SELECT id FROM events WHERE data ->> 'command_id' = $1 AND relayed_at IS NOT NULL ORDER BY position`,
        [command_id],
      );
      const queue = app.get(JobQueue).queue('commands');
      return rows.length === 2 && Promise.all(rows.map(({ id }) => queue.getJob(`event.commands.dispatch-${id}-1`)));
    });
    expect(jobs.map((job) => job !== undefined)).toEqual([false, true]);
  });

  it('refuses more than 64 KiB of data, to the byte', async () => {
    const type = `${own}.big`;
    const room = 64 * 1024 - '{"text":""}'.length;
    expect((await post({ type, data: { text: 'x'.repeat(room) } })).status).toBe(201);
    const refused = await post({ type, data: { text: 'x'.repeat(room + 1) } });
    expect(refused.status).toBe(413);
    expect(refused.body.error).toMatchObject({ code: 'EVENT_TOO_LARGE', details: { field: 'data' } });
    const metadata = { text: 'x'.repeat(8 * 1024) };
    expect((await post({ type, data: {}, metadata })).status).toBe(413);
  });

  it('needs event:emit', async () => {
    const reader = await actor(app, { scopes: ['event:read'] });
    expect((await post({ type: `${own}.created`, data: {} }, reader)).status).toBe(403);
    const emitter = await actor(app, { scopes: ['events:emit'] });
    expect((await post({ type: `${own}.created`, data: {} }, emitter)).status).toBe(201);
    expect((await get('', emitter.key)).status).toBe(403);
  });

  it('by an agent carries the name of that agent', async () => {
    const agent = { agent_name: `a-${own}`, agent_type: 'service', capabilities: ['x'], version: '1' };
    const made = await app.call<{ agent_id: string; api_key: string }>('POST', '/api/v1/ai/agents', {
      key: admin.key,
      body: agent,
    });
    const key = made.body.api_key;
    const other = await post({ type: `${own}.created`, data: {}, source: 'billing' }, { key });
    expect([other.status, other.text]).toEqual([400, expect.stringContaining('own name')]);
    for (const source of [undefined, agent.agent_name, made.body.agent_id]) {
      const { status, body } = await post({ type: `${own}.created`, data: {}, source }, { key });
      expect([status, body.data.event.source]).toEqual([201, source ?? made.body.agent_id]);
    }
  });

  it('happens once with an Idempotency-Key', async () => {
    const headers = { 'Idempotency-Key': randomUUID() };
    const body = { type: `${own}.created`, data: { n: 1 } };
    const [first, again] = [await post(body, { headers }), await post(body, { headers })];
    expect(again.body.data.event.event_id).toBe(first.body.data.event.event_id);
    expect((await list(`event_type=${own}.*`)).events).toHaveLength(1);
    expect((await post({ ...body, data: { n: 2 } }, { headers })).status).toBe(409);
  });

  it('is told to webhooks, counted, and its deliveries are shown with it', async () => {
    const path = `/${own}`;
    const hook = await app.call<{ webhook_id: string }>('POST', '/api/v1/webhooks', {
      key: admin.key,
      body: { url: receiver.url(path), events: [`${own}.*`], secret: 'a-secret-of-eight' },
    });
    const event = await emit(`${own}.created`, { source: 'shop', priority: 'high', metadata: { a: 1 } });
    expect(event.subscriber_count).toBe(1);
    const [received] = await eventually(() => receiver.at(path).length > 0 && receiver.at(path), LONG);
    expect(payloadOf(received)).toEqual({
      id: event.event_id,
      type: `${own}.created`,
      event_type: `${own}.created`,
      timestamp: event.timestamp,
      source: 'shop',
      priority: 'high',
      correlation_id: null,
      metadata: { a: 1 },
      data: { n: 1 },
      delivery_info: { attempt: 1, max_attempts: 4, next_retry: expect.any(String) as string },
    });
    const shown = await eventually(async () => {
      const { body } = await get<{ event: EmittedEvent; delivery_info: { delivered: number; deliveries: object[] } }>(
        `/${event.event_id}`,
      );
      return body.data.delivery_info.delivered === 1 && body.data;
    }, LONG);
    expect(shown.event.status).toBe('published');
    expect(shown.delivery_info.deliveries).toMatchObject([
      { webhook_id: hook.body.webhook_id, status: 'delivered', attempts: 1, last_status_code: 204, last_error: null },
    ]);
    const plain = await actor(app, { scopes: ['event:read'] });
    const counted = await get<{ delivery_info: object }>(`/${event.event_id}`, plain.key);
    expect(counted.body.data.delivery_info).toEqual({ total: 1, pending: 0, delivered: 1, failed: 0 });
  });
});

describe('the limit of emitting', () => {
  it('is its own', async () => {
    const limited = await startTestApp({ NEXUS_RATE_LIMITS: 'on', NEXUS_RATE_LIMIT_EVENTS: '2/3600' });
    try {
      const { key } = await actor(limited);
      const emitOne = (): Promise<Answer> =>
        limited.call('POST', '/api/v1/events', { key, body: { type: `${own}.made`, data: {} } });
      expect([(await emitOne()).status, (await emitOne()).status, (await emitOne()).status]).toEqual([201, 201, 429]);
      expect((await limited.call('GET', '/api/v1/events', { key })).status).toBe(200);
    } finally {
      await limited.stop();
    }
  });
});

describe('an event that expires', () => {
  it('is gone for readers, and a receiver that was away is not told late', async () => {
    const path = `/${own}`;
    let away = true;
    receiver.answer = (response, { path: asked }) => void response.writeHead(asked === path && away ? 503 : 204).end();
    await app.call('POST', '/api/v1/webhooks', {
      key: admin.key,
      body: {
        url: receiver.url(path),
        events: [`${own}.*`],
        retry_config: { max_retries: 20, retry_delay_seconds: 1 },
      },
    });
    const event = await emit(`${own}.created`, { expires_at: new Date(Date.now() + 600_000).toISOString() });
    await eventually(() => receiver.at(path).length > 0, LONG);
    await app.db.query(`UPDATE events SET expires_at = now() WHERE id = $1`, [event.event_id.slice(4)]);
    await app.db.query(`UPDATE webhook_deliveries SET expires_at = now() WHERE event_id = $1`, [
      event.event_id.slice(4),
    ]);
    away = false;
    const [delivery] = await eventually(
      () =>
        app.db
          .query<{ status: string; error_code: string }>(
            `SELECT d.status, a.error_code FROM webhook_deliveries d JOIN webhook_attempts a ON a.delivery_id = d.id AND a.n = d.attempts
             WHERE d.event_id = $1 AND d.status <> 'pending'`,
            [event.event_id.slice(4)],
          )
          .then((rows) => rows.length > 0 && rows),
      LONG,
    );
    expect(delivery).toEqual({ status: 'failed', error_code: 'EXPIRED' });
    const gone = await get(`/${event.event_id}`);
    expect(gone.status).toBe(410);
    expect((await list(`event_type=${own}.*`)).events).toEqual([]);
    expect((await list(`event_type=${own}.*&status=expired`)).events).toMatchObject([{ status: 'expired' }]);
  });
});

describe('looking events up', () => {
  it('filters by every field and says which filters it has used', async () => {
    await emit(`${own}.order.created`, { source: own, priority: 'high', correlation_id: 'one' });
    await emit(`${own}.order.closed`, { source: own, correlation_id: 'two' });
    await emit(`${own}.item.created`, { source: `${own}-other`, priority: 'low' });
    const found = async (query: string): Promise<string[]> =>
      typesOf(await list(query)).map((type) => type.slice(own.length + 1));
    expect(await found(`event_type=${own}.*`)).toEqual(['item.created', 'order.closed', 'order.created']);
    expect(await found(`event_type=${own}.*&sort=timestamp`)).toEqual([
      'order.created',
      'order.closed',
      'item.created',
    ]);
    expect(await found(`event_type=${own}.order.*`)).toEqual(['order.closed', 'order.created']);
    expect(await found(`event_type=${own}.order.closed`)).toEqual(['order.closed']);
    expect(await found(`event_type=${own}`)).toEqual([]);
    expect(await found(`event_type=*.created&source=${own}`)).toEqual(['order.created']);
    expect(await found(`source=${own}`)).toEqual(['order.closed', 'order.created']);
    expect(await found(`source=${own}&priority=high`)).toEqual(['order.created']);
    expect(await found(`source=${own}&priority=normal`)).toEqual(['order.closed']);
    expect(await found(`source=${own}&correlation_id=two`)).toEqual(['order.closed']);
    expect(await found(`source=${own}&end_time=2020-01-01T00:00:00Z`)).toEqual([]);
    expect(await found(`source=${own}&start_time=2099-01-01T00:00:00Z`)).toEqual([]);
    await eventually(async () => (await list(`source=${own}&status=published`)).events.length === 2, LONG);
    expect(await found(`source=${own}&status=pending`)).toEqual([]);
    const { filters_applied, pagination } = await list(`source=${own}&priority=high&per_page=5`);
    expect(filters_applied).toEqual({ source: own, priority: 'high', sort: '-timestamp' });
    expect(pagination).toMatchObject({ total: 1, has_more: false });
  });

  it('pages by number and by cursor, without loss or repetition while events come in', async () => {
    const all: string[] = [];
    for (let n = 0; n < 7; n++) all.unshift((await emit(`${own}.made`, { data: { n } })).event_id);
    const second = await list(`event_type=${own}.made&page=2&per_page=3`);
    expect(second.events.map((e) => e.event_id)).toEqual(all.slice(3, 6));
    const seen: string[] = [];
    for (let query = `event_type=${own}.made&limit=3`; ;) {
      const { events, pagination } = await list(query);
      seen.push(...events.map((e) => e.event_id));
      if (!pagination.next_cursor) break;
      await emit(`${own}.made`);
      query = `event_type=${own}.made&limit=3&cursor=${pagination.next_cursor}`;
    }
    expect(seen).toEqual(all);
  });

  it.each([
    ['event_type', 'event_type=a*b'],
    ['event_type', 'event_type=*.x.*'],
    ['start_time', 'start_time=now'],
    ['start_time', 'start_time=2025-02-01T00:00:00Z&end_time=2025-01-01T00:00:00Z'],
    ['priority', 'priority=max'],
    ['status', 'status=done'],
    ['sort', 'sort=color'],
    ['per_page', 'per_page=101'],
    ['page', 'page=1000&per_page=100'],
    ['cursor', 'cursor=WyJ4Il0'],
  ])('refuses a wrong %s: %s', async (field, query) => {
    const refused = await get(`?${query}`);
    expect(refused.status).toBe(400);
    expect(refused.body.error.details[0].field).toBe(field);
  });

  it('shows nobody what he may not read', async () => {
    const { event_id } = await emit('user.registered', { source: own });
    await emit(`${own}.created`, { source: own });
    const plain = await actor(app, { scopes: ['event:read'] });
    expect(typesOf(await list(`source=${own}`))).toEqual([`${own}.created`, 'user.registered']);
    expect(typesOf(await list(`source=${own}`, plain.key))).toEqual([`${own}.created`]);
    expect((await list(`source=${own}`, plain.key)).pagination.total).toBe(1);
    expect((await get(`/${event_id}`, plain.key)).status).toBe(404);
    expect((await list('source=nexus&event_type=user.*', plain.key)).events).toEqual([]);
  });

  it('knows no event that is none', async () => {
    expect((await get(`/evt_${randomUUID()}`)).status).toBe(404);
    expect((await get('/nonsense')).status).toBe(404);
    expect((await app.call('GET', '/api/v1/events')).status).toBe(401);
  });
});
