import { createHmac, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { EventFeed } from '../../src/platform/events/index.js';
import { OwnerRights } from '../../src/platform/ownership/index.js';
import { Credentials } from '../../src/security/keys/credentials.js';
import { Batches } from '../../src/webhooks/batches.js';
import { WebhooksWorker } from '../../src/webhooks/webhooks.worker.js';
import { actor } from '../support/actors.js';
import { eventually, type TestApp } from '../support/app.js';
import { EventReader } from '../streaming/event-reader.js';
import { commandEvent, StreamReader } from '../streaming/stream-client.js';
import { eventBytes, payloadOf, type Payload, type Received } from '../webhooks/receiver.js';
import { type EmittedEvent, EventBench, type Subscription } from './harness.js';

const LONG = 25_000;
const SECRET = 'a-secret-of-the-test';

interface Batch extends Payload {
  events: Payload[];
}

let bench: EventBench;
let app: TestApp;
/** A namespace, and the path of a receiver, of one test. */
let own: string;
let path: string;

beforeAll(async () => {
  bench = await EventBench.start();
  ({ app } = bench);
});
afterAll(() => bench.stop());
beforeEach(() => {
  own = EventBench.ownName();
  path = `/${own}`;
});

const received = (n: number): Promise<Received[]> =>
  eventually(() => bench.receiver.at(path).length >= n && bench.receiver.at(path), LONG);
const batches = async (n: number): Promise<Batch[]> => (await received(n)).map((one) => payloadOf(one) as Batch);

function toWebhook(over: object = {}): object {
  return {
    event_patterns: [`${own}.*`],
    delivery_method: 'webhook',
    webhook_config: { url: bench.receiver.url(path), secret: SECRET },
    ...over,
  };
}

function toStream(over: object = {}): object {
  return { event_patterns: [`${own}.*`], delivery_method: 'stream', ...over };
}

async function shown(id: string, key = bench.key): Promise<{ status: number; subscription: Subscription }> {
  const answer = await bench.call<{ subscription: Subscription }>('GET', `/subscriptions/${id}`, undefined, { key });
  return { status: answer.status, subscription: answer.body.data?.subscription };
}

/** Writes a subscription as it is shown, with some fields changed. */
async function update(
  id: string,
  { webhook_config: config, ...over }: { webhook_config?: object } & Record<string, unknown>,
  headers = {},
  key = bench.key,
): Promise<{ status: number; subscription: Subscription }> {
  const { name, event_patterns, filters, delivery_method, webhook_config, batch_config, enabled } = (
    await shown(id, key)
  ).subscription;
  const { url, retry_config } = webhook_config ?? {};
  const body = {
    ...{ name, event_patterns, filters, delivery_method, batch_config, enabled },
    webhook_config: webhook_config ? { url, retry_config, ...config } : config,
    ...over,
  };
  const answer = await bench.call<{ subscription: Subscription }>('PUT', `/subscriptions/${id}`, body, {
    headers,
    key,
  });
  return { status: answer.status, subscription: answer.body.data?.subscription };
}

describe('a subscription with a webhook', () => {
  it('gets the events that fit its patterns and filters, signed, and is counted for them', async () => {
    const filters = { source: ['shop', 'billing'], priority: 'high', 'data.region': 'eu' };
    const subscription = await bench.subscribe(toWebhook({ filters }));
    expect(subscription).toMatchObject({
      filters,
      event_patterns: [`${own}.*`],
      enabled: true,
      status: 'active',
      version: 1,
      batch_config: null,
      owner_id: `user_${bench.userId}`,
    });
    expect(subscription.webhook_config).not.toHaveProperty('secret');
    const fitting = { source: 'shop', priority: 'high', data: { region: 'eu' } };
    expect((await bench.emit(`${own}.made`, { ...fitting, source: 'garden' })).subscriber_count).toBe(0);
    expect((await bench.emit(`${own}.made`, { ...fitting, priority: 'low' })).subscriber_count).toBe(0);
    expect((await bench.emit(`${own}.made`, { ...fitting, data: { region: 'us' } })).subscriber_count).toBe(0);
    const event = await bench.emit(`${own}.made`, fitting);
    expect(event.subscriber_count).toBe(1);
    const [delivery] = await received(1);
    expect(payloadOf(delivery).id).toBe(event.event_id);
    const signature = createHmac('sha256', SECRET).update(delivery.body).digest('hex');
    expect(delivery.headers['x-nexus-signature']).toBe(`sha256=${signature}`);
    // A later event of all is there: none before it was sent.
    const last = await bench.emit(`${own}.made`, { ...fitting, source: 'billing' });
    expect((await received(2)).map((one) => payloadOf(one).id)).toEqual([event.event_id, last.event_id]);
  });

  it('shows a secret of the server once', async () => {
    const made = await bench.subscribe(toWebhook({ webhook_config: { url: bench.receiver.url(path) } }));
    expect(made.webhook_config?.secret).toMatch(/^whsec_/);
    expect((await shown(made.subscription_id)).subscription.webhook_config).not.toHaveProperty('secret');
  });

  it('is a webhook whose deliveries can be seen, but that is changed through the subscription alone', async () => {
    const { subscription_id, webhook_config } = await bench.subscribe(toWebhook());
    const hook = `/api/v1/webhooks/${webhook_config?.webhook_id}`;
    const seen = await app.call('GET', hook, { key: bench.key });
    expect(seen.body).toMatchObject({ managed_by: subscription_id, events: [`${own}.*`] });
    expect((await app.call('PATCH', hook, { key: bench.key, body: { active: false } })).status).toBe(409);
    expect((await app.call('DELETE', hook, { key: bench.key })).status).toBe(409);
    const deleted = await bench.call('DELETE', `/subscriptions/${subscription_id}`);
    expect(deleted.body.data).toEqual({ subscription_id, status: 'deleted' });
    expect((await app.call('GET', hook, { key: bench.key })).status).toBe(404);
    expect((await shown(subscription_id)).status).toBe(404);
  });

  it('is changed, paused and revived', async () => {
    const { subscription_id: id } = await bench.subscribe(toWebhook());
    const paused = await update(id, { enabled: false, name: 'Quiet' });
    expect(paused.subscription).toMatchObject({ enabled: false, status: 'paused', name: 'Quiet', version: 2 });
    expect((await bench.emit(`${own}.made`)).subscriber_count).toBe(0);
    const changed = await update(id, {
      enabled: true,
      event_patterns: [`${own}.kept`],
      webhook_config: { retry_config: { max_retries: 1 } },
    });
    expect(changed.subscription).toMatchObject({
      enabled: true,
      status: 'active',
      event_patterns: [`${own}.kept`],
      webhook_config: { url: bench.receiver.url(path), retry_config: { max_retries: 1 } },
    });
    const kept = await bench.emit(`${own}.kept`);
    expect((await received(1)).map((one) => payloadOf(one).id)).toEqual([kept.event_id]);
    // As the server does with a receiver that says 410.
    bench.receiver.answer = (response, { path: asked }) => void response.writeHead(asked === path ? 410 : 204).end();
    await bench.emit(`${own}.kept`);
    await eventually(async () => (await shown(id)).subscription.status === 'disabled', LONG);
    bench.receiver.answer = (response) => void response.writeHead(204).end();
    expect((await update(id, { enabled: true })).subscription.status).toBe('active');
    const before = bench.receiver.at(path).length;
    await bench.emit(`${own}.kept`);
    await received(before + 1);
  });

  it('gets nothing that its owner may not read', async () => {
    const limited = await actor(app, { scopes: ['event:subscribe', 'event:read'] });
    const { subscription_id } = await bench.subscribe(toWebhook({ event_patterns: ['*'] }), limited.key);
    await commandEvent(app);
    await bench.emit('user.registered');
    const event = await bench.emit(`${own}.made`);
    const ids = (await received(1)).map((one) => payloadOf(one).id);
    expect(ids).toContain(event.event_id);
    expect(bench.receiver.at(path).map((one) => payloadOf(one).type)).not.toContain('command.completed');
    expect(bench.receiver.at(path).map((one) => payloadOf(one).type)).not.toContain('user.registered');
    await bench.call('DELETE', `/subscriptions/${subscription_id}`, undefined, { key: limited.key });
    const refused = await bench.call(
      'POST',
      '/subscriptions',
      { name: 'A test', ...toWebhook({ event_patterns: ['command.failed'] }) },
      { key: limited.key },
    );
    expect(refused.status).toBe(403);
    expect(refused.body.error.message).toContain('command:read');
  });
});

describe('batches', () => {
  it('hold so many events, and what is left after the wait', async () => {
    const { subscription_id } = await bench.subscribe(
      toWebhook({ batch_config: { max_size: 3, max_wait_ms: 3_600_000 } }),
    );
    const events: EmittedEvent[] = [];
    for (let n = 0; n < 7; n++) events.push(await bench.emit(`${own}.made`, { data: { n } }));
    const full = await batches(2);
    for (const batch of full) {
      expect(batch).toMatchObject({
        id: expect.stringMatching(/^batch_/) as string,
        type: 'batch',
        event_type: 'batch',
      });
      expect(batch.events).toHaveLength(3);
    }
    const [delivery] = bench.receiver.at(path);
    const signature = createHmac('sha256', SECRET).update(delivery.body).digest('hex');
    expect(delivery.headers['x-nexus-signature']).toBe(`sha256=${signature}`);
    expect(delivery.headers['webhook-id']).toBe(payloadOf(delivery).id);
    const sent = new Set(full.flatMap((batch) => batch.events).map(({ id }) => id));
    const [left, ...none] = events.filter(({ event_id }) => !sent.has(event_id));
    expect(none).toEqual([]);
    const info = async (): Promise<{ pending: number; delivered: number; deliveries: object[] }> =>
      (
        await bench.call<{ delivery_info: { pending: number; delivered: number; deliveries: object[] } }>(
          'GET',
          `/${left.event_id}`,
        )
      ).body.data.delivery_info;
    await eventually(async () => (await info()).pending === 1, LONG);
    expect(await info()).toMatchObject({ total: 1, pending: 1, deliveries: [] });
    expect((await update(subscription_id, { batch_config: { max_size: 3, max_wait_ms: 100 } })).status).toBe(200);
    const last = (await batches(3))[2];
    expect(last.events).toMatchObject([{ id: left.event_id, type: `${own}.made`, data: { n: events.indexOf(left) } }]);
    await eventually(async () => (await info()).delivered === 1, LONG);
    expect((await info()).deliveries).toMatchObject([{ status: 'delivered', attempts: 1 }]);
  }, 120_000);

  it('hold an event once, however often its handler runs', async () => {
    await bench.subscribe(toWebhook({ batch_config: { max_size: 2, max_wait_ms: 3_600_000 } }));
    await bench.emit(`${own}.made`);
    await bench.emit(`${own}.made`);
    await received(1);
    const events = await app.get(EventFeed).since('0', 100_000);
    await app.get(WebhooksWorker).deliver(events.filter(({ type }) => type === `${own}.made`));
    const [{ waiting }] = await app.db.query<{ waiting: number }>(
      `SELECT count(*)::int AS waiting FROM webhook_batch_items i JOIN events e ON e.id = i.event_id
       WHERE e.type = $1 AND i.delivery_id IS NULL`,
      [`${own}.made`],
    );
    expect(waiting).toBe(0);
    expect(bench.receiver.at(path)).toHaveLength(1);
  });

  it('are made up once when several processes are at it', async () => {
    const { subscription_id } = await bench.subscribe(
      toWebhook({ batch_config: { max_size: 100, max_wait_ms: 3_600_000 } }),
    );
    const sent: string[] = [];
    for (let n = 0; n < 10; n++) sent.push((await bench.emit(`${own}.made`)).event_id);
    const pending = async (): Promise<number> => {
      const [{ n }] = await app.db.query<{ n: number }>(
        `SELECT count(*)::int AS n FROM webhook_batch_items i JOIN events e ON e.id = i.event_id
         WHERE e.type = $1 AND i.delivery_id IS NULL`,
        [`${own}.made`],
      );
      return n;
    };
    await eventually(async () => (await pending()) === 10, LONG);
    await update(subscription_id, { batch_config: { max_size: 2, max_wait_ms: 3_600_000 } });
    await Promise.all(Array.from({ length: 6 }, () => app.get(Batches).close()));
    const events = (await batches(5)).flatMap((batch) => batch.events);
    expect(events.map(({ id }) => id).sort()).toEqual(sent.sort());
    expect(await pending()).toBe(0);
  });

  it('are recovered whole after they failed, and leave out what has expired', async () => {
    const { webhook_config, subscription_id } = await bench.subscribe(
      toWebhook({
        batch_config: { max_size: 2, max_wait_ms: 3_600_000 },
        webhook_config: { url: bench.receiver.url(path), secret: SECRET, retry_config: { max_retries: 0 } },
      }),
    );
    bench.receiver.answer = (response, { path: asked }) => void response.writeHead(asked === path ? 500 : 204).end();
    const [one, two] = [await bench.emit(`${own}.made`), await bench.emit(`${own}.made`)];
    const failed = async (): Promise<boolean> => {
      const { body } = await bench.call<{ delivery_info: { failed: number } }>('GET', `/${two.event_id}`);
      return body.data.delivery_info.failed === 1;
    };
    await eventually(failed, LONG);
    bench.receiver.answer = (response) => void response.writeHead(204).end();
    const answer = await app.call(
      'POST',
      `/api/v1/webhooks/${webhook_config?.webhook_id}/recover?since=${encodeURIComponent(one.timestamp)}`,
      { key: bench.key },
    );
    expect(answer.status).toBe(202);
    const [first, again] = await received(2);
    expect(eventBytes(again)).toBe(eventBytes(first));

    const gone = await bench.emit(`${own}.made`, { expires_at: '2099-01-01T00:00:00Z' });
    const uuid = gone.event_id.slice('evt_'.length);
    await eventually(async () => {
      const [, count] = await app.db.query('UPDATE webhook_batch_items SET expires_at = now() WHERE event_id = $1', [
        uuid,
      ]);
      return Number(count) === 1;
    }, LONG);
    const kept = await bench.emit(`${own}.made`);
    await update(subscription_id, { batch_config: { max_size: 2, max_wait_ms: 100 } });
    const last = (await batches(3))[2];
    expect(last.events.map(({ id }) => id)).toEqual([kept.event_id]);
  });

  it('are an ability of every webhook', async () => {
    const answer = await app.call<{ batch_config: object; filters: object }>('POST', '/api/v1/webhooks', {
      key: bench.key,
      body: {
        url: bench.receiver.url(path),
        events: [`${own}.*`],
        filters: { source: 'shop' },
        batch_config: { max_size: 2, max_wait_ms: 3_600_000 },
      },
    });
    expect(answer.body).toMatchObject({
      filters: { source: 'shop' },
      batch_config: { max_size: 2, max_wait_ms: 3_600_000 },
    });
    for (const source of ['shop', 'garden', 'shop']) await bench.emit(`${own}.made`, { source });
    const [{ events }] = await batches(1);
    expect(events).toHaveLength(2);
  });
});

describe('a subscription of a stream', () => {
  it('is followed by its id, with what it wants and nothing else', async () => {
    const { subscription_id } = await bench.subscribe(toStream({ filters: { source: 'shop' } }));
    const reader = EventReader.open(app.url, bench.key, `?subscription_id=${subscription_id}`);
    expect((await reader.next('subscription_confirmed')).data).toMatchObject({ subscription_id });
    const socket = await StreamReader.open(app.url, bench.key, { subscription_id });
    await bench.emit(`${own}.made`, { source: 'garden' });
    await bench.emit(`${EventBench.ownName()}.made`, { source: 'shop' });
    const event = await bench.emit(`${own}.made`, { source: 'shop', priority: 'high' });
    expect(event.subscriber_count).toBe(1);
    await eventually(() => reader.events.length > 0 && socket.events.length > 0, LONG);
    expect(reader.events.map(({ id }) => id)).toEqual([event.event_id]);
    expect(socket.events).toMatchObject([
      { id: event.event_id, event_type: `${own}.made`, source: 'shop', priority: 'high', data: { n: 1 } },
    ]);
    socket.say({ action: 'unsubscribe', subscription_id });
    expect(await socket.next('unsubscription_confirmed')).toMatchObject({ channels: ['events'] });
    reader.close();
    await socket.close();
  });

  it('is reduced and disabled with the rights of its owner, and revived by them', async () => {
    const owner = await actor(app);
    const made = await bench.call<{ subscription: Subscription }>(
      'POST',
      '/subscriptions',
      { name: 'Mine', ...toStream() },
      { key: owner.key },
    );
    const { subscription_id: id } = made.body.data.subscription;
    expect((await bench.emit(`${own}.made`)).subscriber_count).toBe(1);
    const other = (await actor(app)).key;
    const scopesOf = async (): Promise<string[]> => {
      const [row] = await app.db.query<{ reader_scopes: string[] }>(
        'SELECT reader_scopes FROM event_subscriptions WHERE id = $1',
        [id.slice('sub_'.length)],
      );
      return row.reader_scopes;
    };
    expect(await scopesOf()).toContain('security:read');
    await app.db.query(`UPDATE users SET roles = '{viewer}' WHERE id = $1`, [owner.userId]);
    await app.get(OwnerRights).sweep();
    expect(await scopesOf()).not.toContain('security:read');
    expect((await shown(id, owner.key)).subscription).toMatchObject({ status: 'active', version: 2 });
    const second = await app.db.transaction((tx) =>
      app.get(Credentials).create(tx, {
        kind: 'api',
        name: 'second',
        ownerUserId: owner.userId,
        scopes: ['*'],
        expiresInDays: null,
      }),
    );
    await app.call('DELETE', `/api/v1/auth/api-keys/key_${owner.keyId}`, { key: other });
    await eventually(async () => (await shown(id, second.key)).subscription.status === 'disabled', LONG);
    expect((await bench.emit(`${own}.made`)).subscriber_count).toBe(0);
    const revived = await update(id, { enabled: true }, {}, second.key);
    expect(revived.subscription).toMatchObject({ status: 'active', enabled: true });
    await app.get(OwnerRights).sweep();
    expect((await bench.emit(`${own}.made`)).subscriber_count).toBe(1);
  });

  it('resumes after the last event that was seen, without those that have expired', async () => {
    const { subscription_id } = await bench.subscribe(toStream());
    const first = await bench.emit(`${own}.made`);
    const expired = await bench.emit(`${own}.made`, { expires_at: '2099-01-01T00:00:00Z' });
    const last = await bench.emit(`${own}.made`);
    await app.db.query('UPDATE events SET expires_at = now() WHERE id = $1', [expired.event_id.slice(4)]);
    await eventually(
      async () =>
        (await bench.call<{ event: { status: string } }>('GET', `/${last.event_id}`)).body.data.event.status ===
        'published',
      LONG,
    );
    const query = `?subscription_id=${subscription_id}&last_event_id=${first.event_id}`;
    const reader = EventReader.open(app.url, bench.key, query);
    await eventually(() => reader.events.length > 0, LONG);
    expect(reader.events.map(({ id }) => id)).toEqual([last.event_id]);
    reader.close();
  });

  it('is refused when it is another’s, off, unknown, or not alone', async () => {
    const { subscription_id } = await bench.subscribe(toStream());
    const status = async (query: string, key = bench.key): Promise<number> =>
      (await app.call('GET', `/api/v1/events/stream?${query}`, { key })).status;
    const other = await actor(app);
    expect(await status(`subscription_id=${subscription_id}`, other.key)).toBe(404);
    expect(await status(`subscription_id=sub_${randomUUID()}`)).toBe(404);
    expect(await status('subscription_id=nonsense')).toBe(404);
    expect(await status(`subscription_id=${subscription_id}&patterns=*`)).toBe(400);
    const hook = await bench.subscribe(toWebhook());
    expect(await status(`subscription_id=${hook.subscription_id}`)).toBe(404);
    await update(subscription_id, { enabled: false });
    expect(await status(`subscription_id=${subscription_id}`)).toBe(409);
    const socket = await StreamReader.open(app.url, bench.key);
    expect(await socket.subscribe({ subscription_id })).toMatchObject({ code: 'SUBSCRIPTION_DISABLED' });
    await update(subscription_id, { enabled: true });
    expect(await socket.subscribe({ subscription_id })).toMatchObject({ type: 'subscription_confirmed' });
    expect(await socket.subscribe({ subscription_id })).toMatchObject({ code: 'ALREADY_SUBSCRIBED' });
    await socket.close();
  });

  it('takes patterns one by one as well as in one parameter', async () => {
    const reader = EventReader.open(app.url, bench.key, `?patterns=${own}.a&patterns=${own}.b`);
    expect((await reader.next('subscription_confirmed')).data).toMatchObject({ patterns: [`${own}.a`, `${own}.b`] });
    reader.close();
  });
});

describe('subscriptions', () => {
  it('belong to one owner', async () => {
    const [one, other] = [await actor(app), await actor(app)];
    const { subscription_id: id } = await bench.subscribe(toStream(), one.key);
    expect((await shown(id, one.key)).status).toBe(200);
    expect((await shown(id, other.key)).status).toBe(404);
    expect(
      (await bench.call('PUT', `/subscriptions/${id}`, { name: 'x', ...toStream() }, { key: other.key })).status,
    ).toBe(404);
    expect((await bench.call('DELETE', `/subscriptions/${id}`, undefined, { key: other.key })).status).toBe(404);
    const list = await bench.call<{ subscriptions: Subscription[] }>('GET', '/subscriptions', undefined, {
      key: other.key,
    });
    expect(list.body.data.subscriptions).toEqual([]);
  });

  it('are listed page by page, and by what they are', async () => {
    const { key } = await actor(app);
    const made: string[] = [];
    for (let n = 0; n < 5; n++) {
      const body = n % 2 === 0 ? toStream({ enabled: n > 0 }) : toWebhook();
      made.unshift((await bench.subscribe(body, key)).subscription_id);
    }
    const list = async (query: string): Promise<{ ids: string[]; cursor: string | null }> => {
      const answer = await bench.call<{
        subscriptions: Subscription[];
        pagination: { next_cursor: string | null };
      }>('GET', `/subscriptions?${query}`, undefined, { key });
      expect(answer.status, answer.text).toBe(200);
      const { subscriptions, pagination } = answer.body.data;
      return { ids: subscriptions.map(({ subscription_id }) => subscription_id), cursor: pagination.next_cursor };
    };
    expect((await list('page=2&per_page=2')).ids).toEqual(made.slice(2, 4));
    const { ids, cursor } = await list('limit=3');
    expect([...ids, ...(await list(`limit=3&cursor=${cursor}`)).ids]).toEqual(made);
    expect((await list('delivery_method=webhook')).ids).toEqual([made[1], made[3]]);
    expect((await list('enabled=false')).ids).toEqual([made[4]]);
  });

  it('are fifty of one owner at most, also when asked for at once', async () => {
    const { key } = await actor(app);
    const answers = await Promise.all(
      Array.from({ length: 55 }, () => bench.call('POST', '/subscriptions', { name: 'A', ...toStream() }, { key })),
    );
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(50);
    const refused = answers.filter(({ status }) => status === 429);
    expect(refused).toHaveLength(5);
    expect(refused[0].body.error).toMatchObject({ code: 'SUBSCRIPTION_LIMIT_EXCEEDED', limit: 50 });
  });

  it('are changed only at the version that is expected', async () => {
    const { subscription_id: id } = await bench.subscribe(toStream());
    expect((await update(id, { name: 'B' }, { 'if-match': '"v1"' })).status).toBe(200);
    expect((await update(id, { name: 'C' }, { 'if-match': '"v1"' })).status).toBe(412);
    expect((await shown(id)).subscription).toMatchObject({ name: 'B', version: 2 });
  });

  it('need event:subscribe', async () => {
    const { key } = await actor(app, { scopes: ['event:read'] });
    expect((await bench.call('POST', '/subscriptions', { name: 'A', ...toStream() }, { key })).status).toBe(403);
    expect((await bench.call('GET', '/subscriptions', undefined, { key })).status).toBe(403);
  });

  it.each([
    ['name', { name: '' }],
    ['event_patterns', { event_patterns: [] }],
    ['event_patterns', { event_patterns: ['a*b'] }],
    ['delivery_method', { delivery_method: 'pigeon' }],
    ['webhook_config', { delivery_method: 'webhook', webhook_config: undefined }],
    ['webhook_config.url', { webhook_config: { url: 'ftp://example.com' } }],
    ['webhook_config.url', { webhook_config: { url: 'http://10.0.0.1/' } }],
    ['webhook_config.secret', { webhook_config: { url: 'http://127.0.0.1/', secret: 'whsec_!!!!!!!!!!!!' } }],
    ['filters', { filters: [] }],
    ['filters', { filters: { a: { b: 1 } } }],
    ['batch_config.max_size', { batch_config: { max_size: 0, max_wait_ms: 1000 } }],
    ['batch_config.max_wait_ms', { batch_config: { max_size: 5 } }],
    [
      'batch_config',
      { delivery_method: 'stream', webhook_config: undefined, batch_config: { max_size: 5, max_wait_ms: 1000 } },
    ],
    ['webhook_config', { delivery_method: 'stream' }],
    ['colour', { colour: 'red' }],
  ])('are refused with a wrong %s: %j', async (field, over) => {
    const answer = await bench.call('POST', '/subscriptions', { name: 'A test', ...toWebhook(), ...over });
    expect(answer.status).toBe(400);
    expect(answer.body.error.details[0].field).toBe(field);
  });

  it('take null for what may be left out, and a list for nothing that is one thing', async () => {
    const url = bench.receiver.url('/null');
    const body = { event_patterns: [`${own}.*`], delivery_method: 'webhook', filters: null, batch_config: null };
    const made = await bench.subscribe({
      ...body,
      enabled: null,
      webhook_config: { url, secret: null, retry_config: null },
    });
    expect(made.webhook_config?.secret).toMatch(/^whsec_/);
    expect(made.webhook_config?.retry_config.max_retries).toBe(3);
    const path = `/subscriptions/${made.subscription_id}`;
    const put = { name: 'A test', ...body, webhook_config: { url, secret: null, retry_config: null } };
    expect((await bench.call('PUT', path, put)).status).toBe(200);
    const wrong = await bench.call('POST', '/subscriptions', { name: 'A test', ...body, webhook_config: [] });
    expect([wrong.status, wrong.body.error.details[0].field]).toEqual([400, 'webhook_config']);
    await bench.call('DELETE', path);
  });

  it('are replaced as a whole by PUT: what is left out gets its default, but the secret stays', async () => {
    const url = bench.receiver.url(path);
    const made = await bench.subscribe(
      toWebhook({
        filters: { source: 'shop' },
        batch_config: { max_size: 2, max_wait_ms: 100 },
        webhook_config: { url, secret: SECRET, retry_config: { max_retries: 1 } },
        enabled: false,
      }),
    );
    const target = `/subscriptions/${made.subscription_id}`;
    const whole = { name: 'Whole', event_patterns: [`${own}.*`], delivery_method: 'webhook', webhook_config: { url } };
    const put = await bench.call<{ subscription: Subscription }>('PUT', target, whole);
    expect(put.status, put.text).toBe(200);
    expect(put.body.data.subscription).toMatchObject({
      name: 'Whole',
      filters: null,
      batch_config: null,
      enabled: true,
      status: 'active',
      webhook_config: { url, retry_config: { max_retries: 3 } },
    });
    expect(put.body.data.subscription.webhook_config).not.toHaveProperty('secret');
    await bench.emit(`${own}.made`);
    const [delivery] = await received(1);
    const signature = createHmac('sha256', SECRET).update(delivery.body).digest('hex');
    expect(delivery.headers['x-nexus-signature']).toBe(`sha256=${signature}`);
    for (const field of ['name', 'event_patterns', 'delivery_method', 'webhook_config']) {
      const refused = await bench.call('PUT', target, { ...whole, [field]: undefined });
      expect([refused.status, refused.body.error.details[0].field]).toEqual([400, field]);
    }
  });

  it('end the older secret too when a new one replaces it at once', async () => {
    const made = await bench.subscribe({ name: 'A test', ...toWebhook() });
    const webhook = `/api/v1/webhooks/${made.webhook_config?.webhook_id}`;
    const rotate = async (): Promise<number> =>
      (await app.call('POST', `${webhook}/rotate-secret`, { key: bench.key })).status;
    expect([await rotate(), await rotate()]).toEqual([201, 409]);
    await update(made.subscription_id, { webhook_config: { secret: 'another_secret_key' } });
    // No overlap is under way any more.
    expect(await rotate()).toBe(201);
  });

  it('keep their way of delivery', async () => {
    const { subscription_id: id } = await bench.subscribe(toStream());
    expect((await update(id, { delivery_method: 'stream' })).status).toBe(200);
    expect((await update(id, { delivery_method: 'webhook' })).status).toBe(400);
    expect((await update(id, { batch_config: { max_size: 5, max_wait_ms: 1000 } })).status).toBe(400);
  });
});
