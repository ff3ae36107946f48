import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { Database } from '../../src/platform/database/index.js';
import { TelemetrySettings } from '../../src/telemetry/telemetry.settings.js';
import { Metrics } from '../../src/platform/observability/index.js';
import { Rollups } from '../../src/telemetry/rollups.js';
import { actor } from '../support/actors.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { eventually } from '../support/eventually.js';

const METRICS = '/api/v1/telemetry/metrics';
const MINUTE = 60_000;
const HOUR = 3_600_000;
const DAY = 86_400_000;

interface Series {
  unit: string | null;
  interval: string;
  series: { group: Record<string, string | null>; points: { timestamp: string; value: number }[] }[];
}
interface Sample {
  ts: number;
  value: number;
  host: string;
}

let app: TestApp;
let key: string;

beforeAll(async () => {
  app = await startTestApp({ NEXUS_TELEMETRY_ROLLUP_1M_DAYS: '2' });
  ({ key } = await actor(app));
});
afterAll(() => app.stop());

let seed = 42;
const random = (): number => (seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648) / 2_147_483_648;

async function send(metricName: string, samples: Sample[], over: object = {}): Promise<void> {
  for (let i = 0; i < samples.length; i += 500) {
    const events = samples.slice(i, i + 500).map(({ ts, value, host }) => ({
      event_type: 'system.metric',
      source: `agent-${host}`,
      timestamp: new Date(ts).toISOString(),
      data: { metric_name: metricName, value, unit: 'percent', tags: { host, zone: 'a' } },
      ...over,
    }));
    const reply = await app.call('POST', '/api/v1/telemetry/batch', { key, body: { events } });
    expect(reply.body).toMatchObject({ rejected_count: 0 });
  }
}

async function query(params: Record<string, string>): Promise<Series> {
  const reply = await app.call<Series>('GET', `${METRICS}/query?${new URLSearchParams(params).toString()}`, { key });
  expect(reply.status).toBe(200);
  return reply.body;
}

/** Rolls up everything that ended before `now`. */
async function rollUp(now: number): Promise<void> {
  await eventually(async () => {
    // A new one each time: it does not rest between runs.
    const rollups = new Rollups(app.db, app.get(TelemetrySettings), app.get(Metrics));
    await rollups.run(now, new AbortController().signal);
    const due = await app.db.query(
      `SELECT 1 FROM telemetry_dirty WHERE bucket + resolution * interval '1 second' <= to_timestamp($1 / 1000.0 - 10)`,
      [now],
    );
    return due.length === 0;
  }, 60_000);
}

/** What the points must be, straight from the samples. */
function truth(samples: Sample[], interval: number, agg: string): Map<string, number> {
  const buckets = new Map<string, Sample[]>();
  for (const s of samples) {
    const at = new Date(Math.floor(s.ts / interval) * interval).toISOString();
    buckets.set(at, [...(buckets.get(at) ?? []), s]);
  }
  const value = (list: Sample[]): number => {
    const values = list.map((s) => s.value).sort((a, b) => a - b);
    const sum = values.reduce((a, b) => a + b, 0);
    if (agg === 'avg') return sum / values.length;
    if (agg === 'sum') return sum;
    if (agg === 'min') return values[0];
    if (agg === 'max') return values.at(-1) as number;
    if (agg === 'count') return values.length;
    if (agg === 'last') {
      return list.reduce((a, b) => (b.ts > a.ts || (b.ts === a.ts && b.value > a.value) ? b : a)).value;
    }
    return values[Math.ceil((Number(agg.slice(1)) / 100) * values.length) - 1];
  };
  return new Map([...buckets].map(([at, list]) => [at, value(list)]));
}

async function expectTruth(name: string, samples: Sample[], intervals: Record<string, number>): Promise<void> {
  const from = new Date(Math.min(...samples.map((s) => s.ts))).toISOString();
  const to = new Date(Math.max(...samples.map((s) => s.ts))).toISOString();
  for (const [interval, width] of Object.entries(intervals)) {
    for (const agg of ['avg', 'min', 'max', 'sum', 'count', 'last', 'p50', 'p90', 'p95', 'p99']) {
      const { series } = await query({ metric_name: name, interval, agg, from, to });
      const expected = truth(samples, width, agg);
      expect(series[0].points.map((p) => p.timestamp)).toEqual([...expected.keys()].sort());
      for (const { timestamp, value } of series[0].points) {
        const right = expected.get(timestamp) as number;
        const tolerance = agg.startsWith('p') ? 0.02 : 1e-9;
        expect(Math.abs(value - right)).toBeLessThanOrEqual(Math.abs(right) * tolerance + 1e-9);
      }
    }
  }
}

describe('metric series', () => {
  it('are the same from raw events, from rollups and from both, late and old data included', async () => {
    const now = Math.floor(Date.now() / MINUTE) * MINUTE;
    const sample = (range: number): Sample => ({
      ts: now - Math.floor(random() * range),
      value: random() < 0.1 ? 0 : (random() - 0.3) * 10 ** Math.floor(random() * 6),
      host: `h${Math.floor(random() * 3)}`,
    });
    const samples = Array.from({ length: 1500 }, () => sample(6 * HOUR));
    const intervals = { '1m': MINUTE, '5m': 5 * MINUTE, '15m': 15 * MINUTE, '1h': HOUR };
    await send('mixed', samples);
    await expectTruth('mixed', samples, intervals);
    await rollUp(Date.now());
    await expectTruth('mixed', samples, intervals);

    // Late data, sent by several at once while the roller works.
    const late = Array.from({ length: 600 }, () => sample(6 * HOUR));
    const parts = [late.slice(0, 200), late.slice(200, 400), late.slice(400)];
    await Promise.all([...parts.map((part) => send('mixed', part)), rollUp(Date.now()), rollUp(Date.now())]);
    samples.push(...late);
    await expectTruth('mixed', samples, intervals);
    await rollUp(Date.now() + DAY);
    await expectTruth('mixed', samples, { ...intervals, '1d': DAY });
    expect(await app.db.query(`SELECT 1 FROM telemetry_dirty`)).toEqual([]);
    const rolled = await app.db.query(`SELECT DISTINCT resolution FROM telemetry_rollups ORDER BY 1`);
    expect(rolled).toEqual([60, 300, 3600, 86_400].map((resolution) => ({ resolution })));
  });

  it('stay right when data comes for a time whose minutes are no longer kept', async () => {
    const old = Math.floor((Date.now() - 10 * DAY) / HOUR) * HOUR;
    const samples = Array.from({ length: 120 }, (_, i) => ({ ts: old + i * 30_000, value: i + 1, host: 'h0' }));
    await send('old', samples.slice(0, 80));
    await rollUp(Date.now());
    await app.db.query(`DELETE FROM telemetry_rollups WHERE resolution = 60 AND bucket < now() - interval '3 days'`);
    await send('old', samples.slice(80));
    await expectTruth('old', samples, { '5m': 5 * MINUTE, '1h': HOUR });
    await rollUp(Date.now());
    await expectTruth('old', samples, { '5m': 5 * MINUTE, '1h': HOUR });
    const refused = await app.call(
      'GET',
      `${METRICS}/query?metric_name=old&interval=1m&from=${new Date(old).toISOString()}&to=${new Date(old + HOUR).toISOString()}`,
      {
        key,
      },
    );
    expect(refused.status).toBe(400);
    expect(refused.text).toContain('finer than what is kept');
  });

  it('show an event at once', async () => {
    const before = Date.now();
    await send('fresh', [{ ts: before, value: 7, host: 'h1' }]);
    const { series, unit } = await query({ metric_name: 'fresh', interval: '1m' });
    expect(unit).toBe('percent');
    expect(series).toEqual([{ group: {}, points: [{ timestamp: expect.any(String) as string, value: 7 }] }]);
  });

  it('are split by a tag or the source and filtered by tags', async () => {
    const ts = Date.now() - 1000;
    await send(
      'split',
      ['x', 'y', 'y'].map((host, i) => ({ ts: ts + i, value: i, host })),
    );
    const byHost = await query({ metric_name: 'split', group_by: 'host', agg: 'count', interval: '1h' });
    expect(byHost.series.map((s) => [s.group, s.points.reduce((n, p) => n + p.value, 0)])).toEqual([
      [{ host: 'x' }, 1],
      [{ host: 'y' }, 2],
    ]);
    const bySource = await query({ metric_name: 'split', group_by: 'source', agg: 'last', interval: '1h' });
    expect(bySource.series.map((s) => s.group)).toEqual([{ source: 'agent-x' }, { source: 'agent-y' }]);
    const one = await query({ metric_name: 'split', 'tag.host': 'x', 'tag.zone': 'a', agg: 'count', interval: '1d' });
    expect(one.series[0].points[0].value).toBe(1);
    expect((await query({ metric_name: 'split', 'tag.host': 'z' })).series).toEqual([]);
    expect((await query({ metric_name: 'split', source: 'agent-y', agg: 'max' })).series[0].points.at(-1)?.value).toBe(
      2,
    );
    expect((await query({ metric_name: 'nothing' })).series).toEqual([]);
  });

  it.each([
    ['no metric', ''],
    ['an unknown aggregation', 'metric_name=a&agg=median'],
    ['an interval that is none', 'metric_name=a&interval=10s'],
    ['an interval of zero', 'metric_name=a&interval=0m'],
    ['an unknown parameter', 'metric_name=a&color=red'],
    ['tags as a parameter', 'metric_name=a&tags=x'],
    ['a tag without a name', 'metric_name=a&tag.=x'],
    ['a tag given twice', 'metric_name=a&tag.x=1&tag.x=2'],
    ['from after to', 'metric_name=a&from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z'],
    ['from without a zone', 'metric_name=a&from=2026-01-02T00:00:00'],
    ['too many points', 'metric_name=a&interval=1m&from=2020-01-01T00:00:00Z'],
    ['a time after everything', 'metric_name=a&interval=9999d&from=0000-01-01T00:00:00Z&to=9999-12-31T23:59:59Z'],
    ['a time before everything', 'metric_name=a&interval=1d&from=2001-01-01T00:00:00Z'],
  ])('are refused with %s', async (_name, params) => {
    const reply = await app.call('GET', `${METRICS}/query?${params}`, { key });
    expect(reply.status).toBe(400);
  });

  it('are refused for being too many as soon as they are counted', async () => {
    await app.db.query(
      `INSERT INTO telemetry_series (key, source, metric_name, tags, event_type, first_seen, last_seen)
       SELECT gen_random_uuid(), 'crowd-' || n % 50, 'crowded', jsonb_build_object('n', n::text), 'system.metric', now(), now()
       FROM generate_series(1, 30000) AS n`,
    );
    const queries = vi.spyOn(app.get(Database).manager, 'query');
    const others: Record<string, string>[] = [{}, { group_by: 'source' }, { group_by: 'n', agg: 'p95' }];
    for (const more of others) {
      const params = new URLSearchParams({ metric_name: 'crowded', interval: '1m', ...more }).toString();
      const refused = await app.call<{ error: { details: { issue: string }[] } }>('GET', `${METRICS}/query?${params}`, {
        key,
      });
      expect(refused.status).toBe(400);
      expect(refused.body.error.details[0].issue).toBe('has more than 10000 series; filter by tags');
    }
    const read = queries.mock.calls.filter(([sql]) => sql.includes('telemetry_series'));
    queries.mockRestore();
    expect(read).toHaveLength(3);
    for (const [sql, values] of read) {
      const explain = `EXPLAIN (ANALYZE, TIMING off) ${sql}`;
      const plan = await app.db.query<Record<string, string>>(explain, values as unknown[]);
      // Finding them in the index costs little; reading and sorting them is what counts.
      const steps = plan.map((line) => line['QUERY PLAN']).filter((step) => !step.includes('Bitmap Index Scan'));
      const rows = steps.flatMap((step) => [...step.matchAll(/actual rows=(\d+)/g)].map(([, n]) => Number(n)));
      expect(Math.max(...rows)).toBe(10_001);
    }
    await app.db.query(`DELETE FROM telemetry_series WHERE metric_name = 'crowded'`);
  });
});

describe('discovery', () => {
  it('lists metrics and sources with when they were seen last', async () => {
    const ts = Date.now() - 5000;
    await send('disc_a', [{ ts, value: 1, host: 'd1' }]);
    await send('disc_a', [{ ts: ts + 1000, value: 1, host: 'd2' }], { source: 'disc-source' });
    await send('disc_b', [{ ts: ts + 2000, value: 1, host: 'd1' }], { source: 'disc-source' });
    await app.call('POST', '/api/v1/telemetry/events', {
      key,
      body: { event_type: 'deployment.complete', source: 'deployer', data: {} },
    });
    const metrics = await app.call<{ metrics: object[] }>('GET', `${METRICS}?source=disc-source`, { key });
    expect(metrics.body.metrics).toMatchObject([
      { metric_name: 'disc_a', unit: 'percent', sources: 1, series: 1, last_seen: new Date(ts + 1000).toISOString() },
      { metric_name: 'disc_b', last_seen: new Date(ts + 2000).toISOString() },
    ]);
    const all = await app.call<{ sources: { source: string; metrics: number }[] }>('GET', '/api/v1/telemetry/sources', {
      key,
    });
    expect(all.body.sources).toContainEqual(expect.objectContaining({ source: 'deployer', metrics: 0 }));
    expect(all.body.sources).toContainEqual(expect.objectContaining({ source: 'disc-source', metrics: 2 }));

    const names: string[] = [];
    let cursor: string | null = null;
    do {
      const path: string = `/api/v1/telemetry/sources?limit=2${cursor ? `&cursor=${cursor}` : ''}`;
      const page = await app.call<{ sources: { source: string }[]; pagination: { next_cursor: string | null } }>(
        'GET',
        path,
        { key },
      );
      names.push(...page.body.sources.map((s) => s.source));
      cursor = page.body.pagination.next_cursor;
    } while (cursor);
    expect(names).toEqual(all.body.sources.map((s) => s.source));

    // A later event moves last_seen.
    await send('disc_b', [{ ts: ts + 4000, value: 1, host: 'd1' }], { source: 'disc-source' });
    await eventually(async () => {
      const { body } = await app.call<{ metrics: { last_seen: string }[] }>('GET', `${METRICS}?source=disc-source`, {
        key,
      });
      return body.metrics[1].last_seen === new Date(ts + 4000).toISOString();
    }, 20_000);
  });

  it('needs telemetry:read', async () => {
    const writer = await actor(app, { scopes: ['telemetry:write'] });
    for (const path of [METRICS, '/api/v1/telemetry/sources', `${METRICS}/query?metric_name=a`]) {
      expect((await app.call('GET', path, { key: writer.key })).status).toBe(403);
    }
  });
});
