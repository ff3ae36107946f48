import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { advisoryLock } from '../../src/platform/database/index.js';
import { actor } from '../support/actors.js';
import { eventually } from '../support/app.js';
import { EventBench } from './harness.js';

const LONG = 25_000;

interface Stats {
  summary: Record<string, number | string>;
  by_event_type: { event_type: string; count: number }[];
  by_source: { source: string; count: number }[];
  by_priority: { priority: string; count: number }[];
  timeline: { timestamp: string; count: number; groups?: Record<string, number> }[];
}

interface Health {
  status: string;
  relay: { unrelayed: number; unrelayed_is_exact: boolean; lag_ms: number };
  handlers: { failed: number; by_handler: { handler: string; failed: number }[] };
  queue: { depth: number | null; queues: { queue: string }[] };
}

let bench: EventBench;
/** A namespace of one test. */
let own: string;
/** A day long ago that no other test uses. */
let day: number;

beforeAll(async () => {
  bench = await EventBench.start({ NEXUS_EVENT_RETENTION_DAYS: '3650' });
  day = Date.parse('2020-01-01T00:00:00Z');
});
afterAll(() => bench.stop());
beforeEach(() => {
  own = EventBench.ownName();
  day += 86_400_000;
});

/** Emits an event as if it had been so many minutes into the day. */
async function past(minute: number, type: string, extra: object = {}): Promise<void> {
  const { event_id } = await bench.emit(type, extra);
  await bench.app.db.query('UPDATE events SET occurred_at = $2 WHERE id = $1', [
    event_id.slice('evt_'.length),
    new Date(day + minute * 60_000),
  ]);
}

const at = (minute: number): string => new Date(day + minute * 60_000).toISOString();

async function stats(query: string, key = bench.key): Promise<Stats> {
  const range = `start_time=${at(0)}&end_time=${at(24 * 60)}`;
  const answer = await bench.call<Stats>('GET', `/stats?${range}${query}`, undefined, { key });
  expect(answer.status, answer.text).toBe(200);
  return answer.body.data;
}

describe('counts of events', () => {
  it('are there in all, by kind, source and priority, and over time', async () => {
    await past(10, `${own}.made`, { source: 'shop', priority: 'high' });
    await past(20, `${own}.made`, { source: 'shop' });
    await past(70, `${own}.sold`, { source: 'till' });
    await past(23 * 60, `${own}.made`, { source: 'shop', expires_at: '2099-01-01T00:00:00Z' });
    await eventually(async () => (await stats('')).summary.pending === 0, LONG);
    await bench.app.db.query(`UPDATE events SET expires_at = now() WHERE type = $1 AND expires_at IS NOT NULL`, [
      `${own}.made`,
    ]);
    expect(await stats('')).toEqual({
      summary: {
        total_events: 4,
        pending: 0,
        published: 3,
        expired: 1,
        event_types: 2,
        sources: 2,
        events_per_minute: 0,
        start_time: at(0),
        end_time: at(24 * 60),
      },
      by_event_type: [
        { event_type: `${own}.made`, count: 3 },
        { event_type: `${own}.sold`, count: 1 },
      ],
      by_source: [
        { source: 'shop', count: 3 },
        { source: 'till', count: 1 },
      ],
      by_priority: [
        { priority: 'normal', count: 3 },
        { priority: 'high', count: 1 },
      ],
      timeline: [
        { timestamp: at(0), count: 2 },
        { timestamp: at(60), count: 1 },
        { timestamp: at(23 * 60), count: 1 },
      ],
    });
    expect((await stats('&group_by=day')).timeline).toEqual([{ timestamp: at(0), count: 4 }]);
    expect((await stats('&group_by=source')).timeline[1]).toEqual({ timestamp: at(60), count: 1, groups: { till: 1 } });
    expect((await stats('&group_by=type')).timeline[0].groups).toEqual({ [`${own}.made`]: 2 });
    expect((await stats('&group_by=priority')).timeline[0].groups).toEqual({ high: 1, normal: 1 });
  });

  it('are of the events that the reader may read', async () => {
    await past(1, `${own}.made`);
    await past(2, 'user.registered');
    const { key } = await actor(bench.app, { scopes: ['event:read'] });
    expect((await stats('')).summary).toMatchObject({ total_events: 2 });
    expect(await stats('', key)).toMatchObject({
      summary: { total_events: 1, event_types: 1 },
      by_event_type: [{ event_type: `${own}.made`, count: 1 }],
    });
  });

  it('are of the last day when nothing is said, and zero when there is nothing', async () => {
    await bench.emit(`${own}.made`);
    const { body } = await bench.call<Stats>('GET', '/stats');
    expect(body.data.by_event_type).toContainEqual({ event_type: `${own}.made`, count: 1 });
    expect(await stats('')).toMatchObject({ summary: { total_events: 0, sources: 0 }, timeline: [] });
  });

  it.each(['start_time=2025-01-02T00:00:00Z&end_time=2025-01-01T00:00:00Z', 'start_time=2020-01-01T00:00:00Z'])(
    'refuse the range %s',
    async (query) => {
      const refused = await bench.call('GET', `/stats?${query}`);
      expect(refused.status).toBe(400);
      expect(refused.body.error.details[0].field).toBe('start_time');
    },
  );

  it('refuse to group by what they do not know', async () => {
    expect((await bench.call('GET', '/stats?group_by=colour')).status).toBe(400);
  });
});

describe('the health of events', () => {
  const health = async (): Promise<Health> => (await bench.call<Health>('GET', '/health')).body.data;

  it('is good when all are told', async () => {
    await bench.emit(`${own}.made`);
    const found = await eventually(async () => {
      const now = await health();
      return now.relay.unrelayed === 0 && now;
    }, LONG);
    expect(found).toMatchObject({
      status: 'healthy',
      relay: { unrelayed_is_exact: true, lag_ms: 0 },
      handlers: { failed: 0, by_handler: [] },
    });
    expect(found.queue.depth).toEqual(expect.any(Number));
    expect(found.queue.queues.map(({ queue }) => queue)).toContain('webhooks');
  });

  it('tells of a relay that is behind and of handlers that have given up', async () => {
    const beside = new pg.Client({ connectionString: bench.app.db.url });
    await beside.connect();
    try {
      // As long as another process holds its lock, the relay does nothing.
      await beside.query(`SELECT pg_advisory_lock(${advisoryLock('events.relay')})`);
      const { event_id } = await bench.emit(`${own}.made`);
      const ago = (seconds: number): Promise<unknown> =>
        beside.query('UPDATE events SET occurred_at = now() - make_interval(secs => $2) WHERE id = $1', [
          event_id.slice('evt_'.length),
          seconds,
        ]);
      await ago(10);
      const behind = await health();
      expect(behind.relay.unrelayed).toBeGreaterThan(0);
      expect(behind.relay.lag_ms).toBeGreaterThanOrEqual(10_000);
      expect(['degraded', 'unhealthy']).toContain(behind.status);
      await ago(60);
      expect((await health()).status).toBe('unhealthy');
    } finally {
      await beside.end();
    }
    await eventually(async () => (await health()).status === 'healthy', LONG);
    await bench.app.db.query(
      `INSERT INTO event_dead_letters (handler, event_id, event_type, event, error, attempts)
       SELECT 'webhooks.deliver', id, type, '{}', 'It broke', 10 FROM events WHERE type = $1`,
      [`${own}.made`],
    );
    expect(await health()).toMatchObject({
      status: 'degraded',
      handlers: { failed: 1, by_handler: [{ handler: 'webhooks.deliver', failed: 1 }] },
    });
    await bench.app.db.query('DELETE FROM event_dead_letters');
  });

  it('needs event:read', async () => {
    const { key } = await actor(bench.app, { scopes: ['event:emit'] });
    expect((await bench.call('GET', '/health', undefined, { key })).status).toBe(403);
    expect((await bench.call('GET', '/stats', undefined, { key })).status).toBe(403);
  });
});
