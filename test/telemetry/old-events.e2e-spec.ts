import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TelemetrySettings } from '../../src/telemetry/telemetry.settings.js';
import { Metrics } from '../../src/platform/observability/index.js';
import { Rollups } from '../../src/telemetry/rollups.js';
import { Retention } from '../../src/platform/retention/index.js';
import { actor } from '../support/actors.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { eventually } from '../support/eventually.js';

const EVENTS = '/api/v1/telemetry/events';
const BATCH = '/api/v1/telemetry/batch';
const METRICS = '/api/v1/telemetry/metrics';
const MINUTE = 60_000;
const DAY = 86_400_000;
const RETENTION_DAYS = 3;

/** The request as the specification of the API prints it. */
const PRINTED = {
  event_type: 'system.metric',
  source: 'agent_001',
  timestamp: '2025-11-03T01:54:00.000Z',
  data: {
    metric_name: 'cpu_usage',
    value: 45.2,
    unit: 'percent',
    tags: { host: 'server-01', environment: 'production' },
  },
  metadata: { version: '1.0.0', schema: 'metric_v1' },
};

interface List {
  events: { event_id: string; timestamp: string; source: string }[];
}
interface Points {
  series: { points: { timestamp: string; value: number }[] }[];
}

let app: TestApp;
let key: string;

beforeAll(async () => {
  app = await startTestApp({
    NEXUS_TELEMETRY_RETENTION_DAYS: String(RETENTION_DAYS),
    NEXUS_TELEMETRY_ROLLUP_1M_DAYS: '20',
    NEXUS_TELEMETRY_ROLLUP_5M_DAYS: '25',
    NEXUS_TELEMETRY_ROLLUP_1H_DAYS: '30',
  });
  ({ key } = await actor(app));
});
afterAll(() => app.stop());

const post = <B>(path: string, body: unknown, headers: Record<string, string> = {}) =>
  app.call<B>('POST', path, { key, body, headers });
const get = async <B>(path: string): Promise<B> => {
  const answer = await app.call<B>('GET', path, { key });
  expect(answer.status, answer.text).toBe(200);
  return answer.body;
};
const sample = (name: string, ts: number, value: number, over: object = {}): Record<string, unknown> => ({
  event_type: 'system.metric',
  source: 'importer',
  timestamp: new Date(ts).toISOString(),
  data: { metric_name: name, value },
  ...over,
});
const values = async (name: string, ts: number, agg: string, interval: string, span = DAY): Promise<number[]> => {
  const range = { from: new Date(ts).toISOString(), to: new Date(ts + span).toISOString() };
  const params = new URLSearchParams({ metric_name: name, agg, interval, ...range });
  const { series } = await get<Points>(`${METRICS}/query?${params.toString()}`);
  return series.flatMap(({ points }) => points.map(({ value }) => value));
};

async function rollUp(now: number): Promise<void> {
  await eventually(async () => {
    // A new one each time: it does not rest between runs.
    await new Rollups(app.db, app.get(TelemetrySettings), app.get(Metrics)).run(now, new AbortController().signal);
    return (await app.db.query(`SELECT 1 FROM telemetry_dirty`)).length === 0;
  }, 60_000);
}

describe('an event of long ago', () => {
  it('is taken as printed, and found by queries, by metric queries and among the metrics and sources', async () => {
    const created = await post<{ event_id: string }>(EVENTS, PRINTED);
    expect(created.status).toBe(201);
    const query = 'event_type=system.metric&source=agent_001&from=2025-11-03T00:00:00Z&limit=50';
    const { events } = await get<List>(`${EVENTS}?${query}`);
    expect(events).toMatchObject([{ event_id: created.body.event_id, timestamp: PRINTED.timestamp }]);
    expect(await get(`${EVENTS}/${created.body.event_id}`)).toMatchObject(PRINTED);
    const range = 'from=2025-11-03T00:00:00Z&to=2025-11-03T23:59:59Z';
    const { series } = await get<Points>(`${METRICS}/query?metric_name=cpu_usage&${range}`);
    expect(series).toMatchObject([{ points: [{ timestamp: '2025-11-03T00:00:00.000Z', value: 45.2 }] }]);
    const metrics = await get<{ metrics: object[] }>(`${METRICS}?source=agent_001`);
    expect(metrics.metrics).toMatchObject([{ metric_name: 'cpu_usage', last_seen: PRINTED.timestamp }]);
    const sources = await get<{ sources: object[] }>('/api/v1/telemetry/sources?metric_name=cpu_usage');
    expect(sources.sources).toMatchObject([{ source: 'agent_001' }]);
  });

  it('is stored once, however often and in whatever way it is sent again', async () => {
    const ts = Date.now() - 40 * DAY;
    const event = sample('again', ts, 5, { event_id: randomUUID() });
    expect((await post(EVENTS, event)).status).toBe(201);
    expect((await post(EVENTS, event)).status).toBe(200);
    const others = Array.from({ length: 300 }, (_, i) => sample('again', ts + i, 1));
    expect((await post(BATCH, { events: [event, ...others] })).body).toMatchObject({
      accepted_count: 301,
      duplicate_count: 1,
    });
    const body = JSON.stringify({ events: others });
    for (const _ of [1, 2]) await post(BATCH, body, { 'idempotency-key': 'import-again' });
    expect(await values('again', ts, 'count', '1d')).toEqual([601]);
    expect(await values('again', ts, 'sum', '1d')).toEqual([605]);
  });

  it('adds to the rollups of its time, whose other events are gone', async () => {
    const start = Math.floor(Date.now() / DAY) * DAY - DAY;
    await post(BATCH, { events: [10, 20, 30].map((value, i) => sample('kept', start + i * MINUTE, value)) });
    await rollUp(Date.now() + 2 * DAY);
    // The days have passed: the events are dropped, their rollups stay.
    const yesterday = `telemetry_events_p${new Date(start).toISOString().slice(0, 10).replaceAll('-', '')}`;
    await app.db.query(`DELETE FROM ${yesterday} WHERE data->>'metric_name' = 'kept'`);
    await app.db
      .query(`UPDATE telemetry_rollups SET bucket = bucket - interval '10 days', last_at = last_at - interval '10 days'
      WHERE series_id = (SELECT id FROM telemetry_series WHERE metric_name = 'kept')`);
    const old = start - 10 * DAY;
    expect(await values('kept', old, 'sum', '1d', DAY - 1)).toEqual([60]);

    expect((await post(EVENTS, sample('kept', old + MINUTE, 40))).status).toBe(201);
    await post(BATCH, { events: Array.from({ length: 200 }, () => sample('kept', old, 5)) });
    await rollUp(Date.now() + 2 * DAY);
    for (const [agg, minutes, day] of [
      ['sum', [1010, 60, 30], 1100],
      ['count', [201, 2, 1], 204],
      ['min', [5, 20, 30], 5],
      ['max', [10, 40, 30], 40],
      ['last', [10, 40, 30], 30],
    ] as const) {
      expect(await values('kept', old, agg, '1m', 5 * MINUTE)).toEqual(minutes);
      expect(await values('kept', old, agg, '5m', 4 * MINUTE)).toEqual([day]);
      expect(await values('kept', old, agg, '1d', DAY - 1)).toEqual([day]);
    }
    const [p99] = await values('kept', old, 'p99', '1d', DAY - 1);
    expect(p99 / 20).toBeGreaterThan(0.98);
    expect(p99 / 20).toBeLessThan(1.02);
  });

  it('is kept for the retention counted from its receipt, and its series as long', async () => {
    const source = 'long-ago';
    await post(EVENTS, sample('ancient', Date.UTC(1999, 0, 1), 1, { source }));
    await app.get(Retention).enforce(Date.now() + (RETENTION_DAYS - 0.1) * DAY);
    expect((await get<List>(`${EVENTS}?source=${source}`)).events).toHaveLength(1);
    await post(EVENTS, sample('ancient', Date.now(), 2, { source }));
    const now = new Date().toISOString();
    const current = await get<Points>(`${METRICS}/query?metric_name=ancient&agg=last&to=${now}`);
    expect(current.series).toMatchObject([{ points: [{ value: 2 }] }]);
    // Later than the receipt of the old one by more than the retention, yet on the day of the new one, which goes as a whole.
    const [received, midnight] = [Date.now(), Math.ceil(Date.now() / DAY) * DAY];
    await app.get(Retention).enforce((received + midnight) / 2 + RETENTION_DAYS * DAY);
    expect((await get<List>(`${EVENTS}?source=${source}`)).events).toMatchObject([
      { timestamp: expect.not.stringContaining('1999') as string },
    ]);
  });

  it('shares a day with others when the retention has grown since', async () => {
    const day = Date.now() - 50 * DAY;
    await post(EVENTS, sample('grown', day, 1, { source: 'grown' }));
    const settings = app.get(TelemetrySettings);
    settings.retentionDays = 60;
    try {
      for (const value of [2, 3]) {
        expect((await post(EVENTS, sample('grown', day, value, { source: 'grown' }))).status).toBe(201);
      }
    } finally {
      settings.retentionDays = RETENTION_DAYS;
    }
    expect((await get<List>(`${EVENTS}?source=grown`)).events).toHaveLength(3);
  });
});
