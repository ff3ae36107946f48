import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { TelemetrySettings } from '../../src/telemetry/telemetry.settings.js';
import { Database } from '../../src/platform/database/index.js';
import { HealthRegistry } from '../../src/platform/observability/index.js';
import { AgentCredentials } from '../../src/security/index.js';
import { Partitions } from '../../src/telemetry/partitions.js';
import { Retention } from '../../src/platform/retention/index.js';
import { actor } from '../support/actors.js';
import { startTestApp, type TestApp } from '../support/app.js';

const EVENTS = '/api/v1/telemetry/events';
const DAY = 86_400_000;

interface Event {
  event_id: string;
  event_type: string;
  source: string;
  timestamp: string;
  data: Record<string, unknown>;
}
interface Page {
  events: Event[];
  pagination: { total: number; total_is_exact: boolean; has_more: boolean; next_cursor: string | null; page: number };
}

let app: TestApp;
let key: string;
const start = Math.floor(Date.now() / 1000) * 1000 - 3_600_000;

beforeAll(async () => {
  app = await startTestApp();
  ({ key } = await actor(app));
  // Ten events to every second of `bulk`, so that ids decide the order within one.
  await send(
    Array.from({ length: 250 }, (_, i) => ({
      event_type: i % 5 === 0 ? 'system.alarm' : 'system.metric',
      source: 'bulk',
      timestamp: new Date(start + Math.floor(i / 10) * 1000).toISOString(),
      data: { metric_name: `m${i % 2}`, value: i, tags: { host: `h${i % 3}`, zone: 'a' } },
    })),
  );
});
afterAll(() => app.stop());

async function send(events: object[], as = key): Promise<{ accepted_count: number; rejected_count: number }> {
  const reply = await app.call<{ accepted_count: number; rejected_count: number }>('POST', '/api/v1/telemetry/batch', {
    key: as,
    body: { events },
  });
  expect(reply.status).toBe(202);
  return reply.body;
}

async function list(params: Record<string, string>, as = key): Promise<Page> {
  const reply = await app.call<Page>('GET', `${EVENTS}?${new URLSearchParams(params).toString()}`, { key: as });
  expect(reply.status).toBe(200);
  return reply.body;
}

const values = (page: Page): unknown[] => page.events.map((e) => e.data.value);

describe('listing events', () => {
  it('ends a page after about 4 MB, and goes on by its cursor', async () => {
    const data = { text: 'x'.repeat(45_000) };
    for (let n = 0; n < 3; n++) {
      await send(Array.from({ length: 100 }, () => ({ event_type: 'large', source: 'large', data })));
    }
    const filters: Record<string, string>[] = [{ source: 'large' }, { source: 'large', event_type: 'large' }];
    for (const filter of filters) {
      const seen: string[] = [];
      for (let cursor: string | null | undefined; cursor !== null;) {
        const { events, pagination } = await list({ ...filter, limit: '1000', ...(cursor ? { cursor } : {}) });
        expect(JSON.stringify(events).length).toBeLessThan(4.5 * 1024 * 1024);
        expect(pagination.has_more).toBe(pagination.next_cursor !== null);
        seen.push(...events.map(({ event_id }) => event_id));
        cursor = pagination.next_cursor;
      }
      expect([seen.length, new Set(seen).size]).toEqual([300, 300]);
    }
  });

  it('gives the newest first, a hundred unless asked otherwise', async () => {
    const page = await list({ source: 'bulk' });
    expect(page.events).toHaveLength(100);
    expect(page.pagination).toMatchObject({ total: 250, total_is_exact: true, has_more: true });
    const order = page.events.map((e) => `${e.timestamp} ${e.event_id}`);
    expect(order).toEqual([...order].sort().reverse());
    expect((await list({ source: 'bulk', limit: '1000' })).events).toHaveLength(250);
  });

  it('filters by type, source, time, metric and tags', async () => {
    const at = (seconds: number): string => new Date(start + seconds * 1000).toISOString();
    expect((await list({ source: 'bulk', event_type: 'system.alarm' })).pagination.total).toBe(50);
    expect((await list({ event_type: 'system.alarm' })).pagination.total).toBe(50);
    expect((await list({ source: 'bulk', from: at(3), to: at(4) })).pagination.total).toBe(20);
    expect((await list({ source: 'bulk', metric_name: 'm1' })).pagination.total).toBe(125);
    expect((await list({ 'tag.host': 'h0', 'tag.zone': 'a' })).pagination.total).toBe(84);
    expect((await list({ 'tag.host': 'h0', 'tag.zone': 'b' })).events).toEqual([]);
    expect((await list({ source: 'nobody' })).pagination).toMatchObject({ total: 0, has_more: false });
  });

  it('walks through everything once by cursor while events keep coming', async () => {
    const seen: string[] = [];
    let cursor: string | null = null;
    do {
      const page: Page = await list({ source: 'bulk', limit: '37', ...(cursor ? { cursor } : {}) });
      seen.push(...page.events.map((e) => e.event_id));
      cursor = page.pagination.next_cursor;
      await send([{ event_type: 'late', source: 'bulk', data: {} }]);
    } while (cursor);
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen).toHaveLength(250);
    await app.db.query(`DELETE FROM telemetry_events WHERE event_type = 'late'`);
  });

  it('pages by offset and by page', async () => {
    const all = values(await list({ source: 'bulk', limit: '1000' }));
    expect(values(await list({ source: 'bulk', limit: '10', offset: '240' }))).toEqual(all.slice(240));
    const third = await list({ source: 'bulk', page: '3', per_page: '100' });
    expect(values(third)).toEqual(all.slice(200));
    expect(third.pagination).toMatchObject({ page: 3, has_more: false });
  });

  it('counts up to a thousand and then says so', async () => {
    await app.db.query(
      `INSERT INTO telemetry_events (event_id, ts, received_at, event_type, source, data)
       SELECT gen_random_uuid(), to_timestamp($1 / 1000.0), now(), 'many', 'many', '{}' FROM generate_series(1, 1050)`,
      [start],
    );
    const page = await list({ source: 'many', limit: '1' });
    expect(page.pagination).toMatchObject({ total: 1000, total_is_exact: false, has_more: true });
    const later = await list({ source: 'many', limit: '10', offset: '1020' });
    expect(later.pagination).toMatchObject({ total: 1031, total_is_exact: false, has_more: true });
    const last = await list({ source: 'many', limit: '100', offset: '1040' });
    expect(last.events).toHaveLength(10);
    expect(last.pagination).toMatchObject({ total: 1050, total_is_exact: true, has_more: false, pages: 11 });
    const tagged = await list({ event_type: 'many', source: 'many', limit: '1' });
    expect(tagged.pagination).toMatchObject({ total: 1000, total_is_exact: false, has_more: true });
  });

  it('finds a few events of many weeks, and goes on from wherever a search has ended', async () => {
    const ago = [1, 2 * 60, 3 * 1440, 3 * 1440 + 1, 28 * 1440].map((minutes) => start - minutes * 60_000);
    const event = (ms: number, value: number) => ({
      event_type: 'system.metric',
      source: 'rarely',
      timestamp: new Date(ms).toISOString(),
      data: { metric_name: 'rare', value, tags: { kind: `k${value % 2}` } },
    });
    await send(ago.map(event));
    const all = await list({ metric_name: 'rare' });
    expect(values(all)).toEqual([0, 1, 2, 3, 4]);
    expect(all.pagination).toMatchObject({ total: 5, total_is_exact: true, has_more: false, next_cursor: null });
    expect(values(await list({ 'tag.kind': 'k1' }))).toEqual([1, 3]);
    const [from, to] = [ago[3], ago[1]].map((ms) => new Date(ms).toISOString());
    expect(values(await list({ metric_name: 'rare', from, to }))).toEqual([1, 2, 3]);
    const walked: unknown[] = [];
    for (let cursor: string | null = ''; cursor !== null;) {
      const page: Page = await list({ metric_name: 'rare', limit: '2', ...(cursor && { cursor }) });
      walked.push(...values(page));
      cursor = page.pagination.next_cursor;
    }
    expect(walked).toEqual([0, 1, 2, 3, 4]);
    // What a search that took its time says: everything after this has been looked at.
    const place = [new Date(ago[2] + 1).toISOString(), '00000000-0000-0000-0000-000000000000'];
    const cursor = Buffer.from(JSON.stringify(place)).toString('base64url');
    expect(values(await list({ metric_name: 'rare', cursor }))).toEqual([2, 3, 4]);
  });

  it('takes times from the first year to the last', async () => {
    const all = await list({ source: 'bulk', limit: '1000' });
    const within = { source: 'bulk', limit: '1000', from: '0000-01-01T00:00:00Z', to: '9999-12-31T23:59:59-23:59' };
    expect(values(await list(within))).toEqual(values(all));
  });

  it.each([
    'limit=-1',
    'limit=1001',
    'limit=x',
    'offset=-1',
    'limit=10&page=2',
    'from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z',
    'from=yesterday',
    'color=red',
    'cursor=abc',
    `cursor=${Buffer.from('["x","y"]').toString('base64url')}`,
    'tag.=x',
    'tag.constructor=x',
    'tag.__proto__=x',
    'source=%00',
  ])('refuses %s', async (query) => {
    const reply = await app.call('GET', `${EVENTS}?${query}`, { key });
    expect(reply.status).toBe(400);
    expect(reply.body).toMatchObject({ error: { code: 'VALIDATION_ERROR' } });
  });
});

describe('agents', () => {
  it('write and read only under their own name', async () => {
    const credentials = app.get(AgentCredentials);
    const agent = await app
      .get(Database)
      .transaction((tx) => credentials.issue(tx, { agentId: randomUUID(), name: 'probe-1' }));
    const event = { event_type: 'system.metric', data: { metric_name: 'own', value: 1 } };
    const reply = await send([event, { ...event, source: 'probe-1' }, { ...event, source: 'bulk' }], agent.key);
    expect(reply).toMatchObject({ accepted_count: 2, rejected_count: 1 });
    const own = await list({}, agent.key);
    expect(own.events.map((e) => e.source)).toEqual(['probe-1', 'probe-1']);
    expect((await list({ source: 'bulk' }, agent.key)).events).toEqual([]);
    const other = (await list({ source: 'bulk', limit: '1' })).events[0].event_id;
    expect((await app.call('GET', `${EVENTS}/${other}`, { key: agent.key })).status).toBe(404);
    expect((await app.call('GET', `${EVENTS}/${own.events[0].event_id}`, { key: agent.key })).status).toBe(200);
    const metrics = await app.call('GET', '/api/v1/telemetry/metrics', { key: agent.key });
    expect(metrics.body).toMatchObject({ metrics: [{ metric_name: 'own' }] });
    const series = await app.call('GET', '/api/v1/telemetry/metrics/query?metric_name=m1', { key: agent.key });
    expect(series.body).toMatchObject({ series: [] });
  });
});

describe('retention', () => {
  it('makes the partitions of the coming days and drops days, rollups and batches that are over', async () => {
    const { retentionDays: days } = app.get(TelemetrySettings);
    const partitions = async (): Promise<string[]> =>
      (
        await app.db.query<{ name: string }>(
          `SELECT inhrelid::regclass::text AS name FROM pg_inherits
           WHERE inhparent = 'telemetry_events'::regclass ORDER BY 1`,
        )
      ).map((r) => r.name);
    const nameOf = (ms: number): string =>
      `telemetry_events_p${new Date(ms).toISOString().slice(0, 10).replaceAll('-', '')}`;
    const old = Date.now() - (days - 1) * DAY;
    await send([{ event_type: 'old', source: 'old', timestamp: new Date(old).toISOString(), data: {} }]);
    expect(await partitions()).toContain(nameOf(old));
    await app.db.query(
      `INSERT INTO telemetry_rollups VALUES (60, 1, now() - interval '9 days', 1, 1, 1, 1, now(), 1, '{}', '{}'),
                                            (60, 1, now() - interval '6 days', 1, 1, 1, 1, now(), 1, '{}', '{}')`,
    );

    await app.get(Retention).enforce(Date.now());
    expect(await partitions()).toEqual(expect.arrayContaining([nameOf(old), nameOf(Date.now() + 3 * DAY)]));
    expect(
      await app.db.query(`SELECT 1 FROM telemetry_rollups WHERE series_id = 1 AND resolution = 60 AND count = 1
      AND bucket < now() - interval '5 days'`),
    ).toHaveLength(1);
    expect((await list({ source: 'old' })).events).toHaveLength(1);

    // As if the clock of the database had jumped, or that of this process: only the two oldest days go.
    const older = [4, 3, 2].map((back) => Date.now() - (days + back) * DAY);
    await app.get(Partitions).ensureFor(older.map((ts) => ({ ts, isOld: false })));
    const process = vi.spyOn(Date, 'now').mockReturnValue(Date.now() - 40 * DAY);
    try {
      await app.get(Retention).run();
      const { components } = await app.get(HealthRegistry).run();
      expect(components.clock).toMatchObject({ status: 'unhealthy', details: { retention: 'limited' } });
    } finally {
      process.mockRestore();
    }
    const left = await partitions();
    expect(older.map((ms) => left.includes(nameOf(ms)))).toEqual([false, false, true]);
    await app.get(Retention).run();
    expect(await partitions()).not.toContain(nameOf(older[2]));

    await app.get(Retention).enforce(Date.now() + 3 * DAY);
    expect(await partitions()).not.toContain(nameOf(old));
    expect((await list({ source: 'old' })).events).toEqual([]);
    expect((await list({ source: 'bulk' })).events).toHaveLength(100);

    await app.get(Retention).enforce(Date.now() + (days + 2) * DAY);
    expect(await app.db.query(`SELECT 1 FROM telemetry_batches`)).toEqual([]);
    // What was dropped is made again for an event that falls there.
    expect(await send([{ event_type: 'new', source: 'new', data: {} }])).toMatchObject({ accepted_count: 1 });
  });
});
