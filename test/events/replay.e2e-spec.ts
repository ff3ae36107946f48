import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { actor } from '../support/actors.js';
import { eventually } from '../support/app.js';
import { WebhookBench } from '../webhooks/harness.js';
import { eventBytes, payloadOf } from '../webhooks/receiver.js';

interface Operation {
  replay_id: string;
  purge_id: string;
  status: string;
  progress: number;
  total: number;
  replayed: number;
  deliveries: number;
  handler_jobs: number;
  delivery_info: { pending: number; delivered: number; failed: number };
  deleted: number;
  kept: number;
  before: string;
}

const LONG = 60_000;
let bench: WebhookBench;

beforeAll(async () => {
  bench = await WebhookBench.start();
});
afterAll(() => bench?.stop());

async function call(method: string, path: string, body?: object, key = bench.key) {
  const answer = await bench.app.call<{ data: Operation }>(method, `/api/v1/events/${path}`, { key, body });
  return { status: answer.status, data: answer.body.data, text: answer.text };
}

async function start(what: 'replay' | 'purge', body: object): Promise<string> {
  const { status, data } = await call('POST', what, body);
  expect(status).toBe(202);
  expect(data.status).toBe('queued');
  return what === 'replay' ? data.replay_id : data.purge_id;
}

function ended(what: 'replay' | 'purge', id: string): Promise<Operation> {
  return eventually(async () => {
    const { data } = await call('GET', `${what}/${id}`);
    return !['queued', 'running'].includes(data.status) && data;
  }, LONG);
}

/** Events of the past that were relayed long ago. @returns their UUIDs, the oldest first */
async function past(count: number, type = 'orders.created', fields = ''): Promise<string[]> {
  const rows = await bench.app.db.query<{ id: string }>(
    `INSERT INTO events (id, type, subject, data, actor_id, source, occurred_at, relayed_at, seq, correlation_id)
     SELECT gen_random_uuid(), $2, NULL, jsonb_build_object('n', n), 'user_1', 'shop',
       now() - interval '1 hour' + n * interval '1 millisecond', now(), nextval('events_seq'), $3
     FROM generate_series(1, $1::int) AS n ORDER BY n RETURNING id`,
    [count, type, fields || null],
  );
  return rows.map(({ id }) => id);
}

const hourAgo = (): string => new Date(Date.now() - 3_700_000).toISOString();

describe('a replay', { timeout: LONG }, () => {
  it('delivers again with the same id and event, marked, to those who want the events', async () => {
    const wanting = await bench.register({ events: ['parcels.*'] });
    const other = await bench.register({ events: ['letters.*'] });
    const ids = await past(3, 'parcels.sent');
    await past(2, 'parcels.lost', 'not-these');
    const body = { event_filter: { start_time: hourAgo(), event_types: ['*.sent'], source: 'shop' } };
    const delivered = (id: string): Promise<boolean> =>
      eventually(async () => (await call('GET', `replay/${id}`)).data.delivery_info.delivered === 3, LONG);
    const firstId = await start('replay', body);
    const first = await ended('replay', firstId);
    expect(first).toMatchObject({ status: 'completed', progress: 100, total: 3, replayed: 3, deliveries: 3 });
    await delivered(firstId);
    // Again: what was delivered is delivered once more, by the same rows.
    const replayId = await start('replay', body);
    await ended('replay', replayId);
    await delivered(replayId);
    const received = bench.receiver.at(wanting.path);
    expect(received).toHaveLength(6);
    expect(bench.receiver.at(other.path)).toEqual([]);
    for (const id of ids) {
      const [one, two] = received.filter(({ headers }) => headers['webhook-id'] === `evt_${id}`);
      expect(eventBytes(two)).toBe(eventBytes(one));
      expect(two.headers['x-nexus-replay']).toBe(replayId);
    }
    const deliveries = await bench.deliveriesOf(wanting.id);
    expect(deliveries).toHaveLength(3);
    expect(deliveries[0]).toMatchObject({ replay_id: replayId, attempts: [{ attempt: 1 }, { attempt: 2 }] });
    const [{ n }] = await bench.app.db.query<{ n: number }>(
      `SELECT count(*)::int AS n FROM events WHERE type LIKE 'parcels.%'`,
    );
    expect(n).toBe(5);
    // Somebody sends it again by hand: it is no replay any more.
    await bench.app.call('POST', `/api/v1/webhooks/deliveries/${deliveries[0].delivery_id}/redeliver`, {
      key: bench.key,
    });
    await eventually(() => bench.receiver.at(wanting.path).length === 7, LONG);
    expect(bench.receiver.at(wanting.path)[6].headers['x-nexus-replay']).toBeUndefined();
    await bench.remove(wanting.id, other.id);
  });

  it('reaches named webhooks and handlers alone, and named events', async () => {
    const a = await bench.register({ events: ['boxes.*'] });
    const b = await bench.register({ events: ['boxes.*'] });
    const ids = await past(5, 'boxes.made', 'box-run');
    const event_ids = [ids[1], ids[3]].map((id) => `evt_${id}`);
    const only = await ended(
      'replay',
      await start('replay', { event_filter: { event_ids }, target_subscribers: [a.id] }),
    );
    expect(only).toMatchObject({ total: 2, deliveries: 2, handler_jobs: 0 });
    await eventually(() => bench.receiver.at(a.path).length === 2, LONG);
    const told = bench.receiver.at(a.path).map((one) => payloadOf(one).data.n);
    expect(told.sort()).toEqual([2, 4]);
    // A handler of the server gets them as jobs of its own; this one makes the deliveries that are missing.
    const body = { event_filter: { correlation_id: 'box-run' }, target_subscribers: ['webhooks.deliver'] };
    expect(await ended('replay', await start('replay', body))).toMatchObject({
      total: 5,
      deliveries: 0,
      handler_jobs: 5,
    });
    await eventually(() => bench.receiver.at(b.path).length === 5, LONG);
    await eventually(() => bench.receiver.at(a.path).length === 5, LONG);
    await bench.remove(a.id, b.id);
  });

  it('reaches the webhook of a named subscription, and tells that a stream is none', async () => {
    const subscribe = async (body: object): Promise<string> => {
      const answer = await bench.app.call<{ data: { subscription: { subscription_id: string } } }>(
        'POST',
        '/api/v1/events/subscriptions',
        { key: bench.key, body: { name: 'Crates', event_patterns: ['crates.*'], ...body } },
      );
      return answer.body.data.subscription.subscription_id;
    };
    const webhook_config = { url: bench.receiver.url('/crates') };
    const [named, stream] = [
      await subscribe({ delivery_method: 'webhook', webhook_config }),
      await subscribe({ delivery_method: 'stream' }),
    ];
    const event_filter = { event_ids: (await past(2, 'crates.made')).map((id) => `evt_${id}`) };
    const refused = await call('POST', 'replay', { event_filter, target_subscribers: [named, stream] });
    expect(refused.status).toBe(400);
    expect(refused.text).toContain('target_subscribers.1');
    const told = await ended('replay', await start('replay', { event_filter, target_subscribers: [named] }));
    expect(told).toMatchObject({ total: 2, deliveries: 2, handler_jobs: 0 });
    await eventually(() => bench.receiver.at('/crates').length === 2, LONG);
    for (const id of [named, stream]) {
      await bench.app.call('DELETE', `/api/v1/events/subscriptions/${id}`, { key: bench.key });
    }
  });

  it('goes event by event when it is paced, and is cancelled in the middle', async () => {
    const { id, path } = await bench.register({ events: ['slow.*'] });
    await past(50, 'slow.made');
    const replayId = await start('replay', {
      event_filter: { start_time: hourAgo(), event_types: ['slow.made'] },
      replay_mode: 'paced',
      delay_between_events_ms: 2000,
    });
    await eventually(() => bench.receiver.at(path).length >= 2, LONG);
    const { status, data } = await call('DELETE', `replay/${replayId}`);
    expect([status, data.status]).toEqual([200, 'cancelled']);
    expect(data.total).toBe(50);
    expect((await call('DELETE', `replay/${replayId}`)).data).toEqual(data);
    // The next one is not held up by it.
    await ended('replay', await start('replay', { event_filter: { event_ids: [`evt_${randomUUID()}`] } }));
    const [{ n }] = await bench.app.db.query<{ n: number }>(
      `SELECT count(*)::int AS n FROM webhook_deliveries WHERE event_type = 'slow.made'`,
    );
    expect(n).toBeLessThan(50);
    await bench.remove(id);
  });

  it('is refused with the field that is wrong', async () => {
    const { id } = await bench.register({ active: false });
    const refused = async (body: object, text: string): Promise<void> => {
      const answer = await call('POST', 'replay', body);
      expect([answer.status, answer.text]).toEqual([400, expect.stringContaining(text)]);
    };
    const event_filter = { start_time: hourAgo() };
    await refused({}, 'event_filter');
    await refused({ event_filter: {} }, 'start_time, event_ids or correlation_id');
    await refused({ event_filter: { event_types: ['orders.*'] } }, 'start_time, event_ids or correlation_id');
    await refused({ event_filter: { ...event_filter, event_types: ['Orders'] } }, 'event_types');
    await refused({ event_filter: { start_time: '2025-W01' } }, 'start_time');
    await refused({ event_filter: { start_time: '2099-01-01T00:00:00Z' } }, 'start_time');
    await refused({ event_filter: { event_ids: ['evt_1'] } }, 'event_ids');
    await refused({ event_filter, target_subscribers: [id] }, 'target_subscribers.0');
    await refused({ event_filter, target_subscribers: ['no.such'] }, 'webhooks.deliver');
    await refused({ event_filter, delay_between_events_ms: 5 }, 'paced');
    await refused({ event_filter, replay_mode: 'fast' }, 'replay_mode');
    expect((await call('GET', `replay/replay_${randomUUID()}`)).status).toBe(404);
    const operator = (await actor(bench.app, { role: 'operator' })).key;
    expect((await call('POST', 'replay', { event_filter }, operator)).status).toBe(403);
    await bench.remove(id);
  });
});

describe('a purge', { timeout: LONG }, () => {
  const typesLeft = async (type: string): Promise<number> => {
    const [{ n }] = await bench.app.db.query<{ n: number }>('SELECT count(*)::int AS n FROM events WHERE type = $1', [
      type,
    ]);
    return n;
  };

  it('counts only when it is dry, and then deletes in batches what is meant', async () => {
    await past(25, 'old.made');
    await past(3, 'kept.made');
    const criteria = { older_than: '30m', event_types: ['old.*'], source: 'shop' };
    const dry = await ended('purge', await start('purge', { criteria, dry_run: true }));
    expect(dry).toMatchObject({ status: 'completed', total: 25, deleted: 0, kept: 0 });
    expect(await typesLeft('old.made')).toBe(25);
    const real = await ended('purge', await start('purge', { criteria, batch_size: 10 }));
    expect(real).toMatchObject({ status: 'completed', progress: 100, total: 25, deleted: 25, kept: 0 });
    expect([await typesLeft('old.made'), await typesLeft('kept.made')]).toEqual([0, 3]);
    const [{ up_to }] = await bench.app.db.query<{ up_to: string }>('SELECT up_to FROM events_removed');
    expect(BigInt(up_to)).toBeGreaterThan(0n);
  });

  it('leaves what is not relayed, young, or still to be delivered', async () => {
    const { id, path } = await bench.register({ events: ['held.*'] });
    const [held] = await past(2, 'held.made');
    bench.receiver.answer = (response) => response.writeHead(503).end();
    await ended('replay', await start('replay', { event_filter: { event_ids: [`evt_${held}`] } }));
    await eventually(() => bench.receiver.at(path).length === 1, LONG);
    bench.receiver.answer = (response) => response.writeHead(204).end();
    const young = { criteria: { before: '2099-01-01T00:00:00Z', event_types: ['held.*'] } };
    const purge = await ended('purge', await start('purge', young));
    expect(purge).toMatchObject({ total: 2, deleted: 1, kept: 1 });
    expect(Date.parse(purge.before)).toBeLessThan(Date.now() - 59_000);
    expect(await typesLeft('held.made')).toBe(1);
    await bench.remove(id);
  });

  it('is refused with the field that is wrong', async () => {
    const refused = async (body: object, text: string): Promise<void> => {
      const answer = await call('POST', 'purge', body);
      expect([answer.status, answer.text]).toEqual([400, expect.stringContaining(text)]);
    };
    await refused({}, 'criteria');
    await refused({ criteria: {} }, 'before and older_than');
    await refused({ criteria: { before: hourAgo(), older_than: '1d' } }, 'before and older_than');
    await refused({ criteria: { older_than: '1 year' } }, 'older_than');
    await refused({ criteria: { before: '2025-W01' } }, 'before');
    await refused({ criteria: { older_than: '1d', status: 'pending' } }, 'status');
    await refused({ criteria: { older_than: '1d' }, batch_size: 0 }, 'batch_size');
    expect((await call('GET', `purge/purge_${randomUUID()}`)).status).toBe(404);
    expect((await call('DELETE', `purge/purge_${randomUUID()}`)).status).toBe(404);
    const operator = (await actor(bench.app, { role: 'operator' })).key;
    expect((await call('POST', 'purge', { criteria: { older_than: '1d' } }, operator)).status).toBe(403);
  });
});
