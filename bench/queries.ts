import pg from 'pg';
import { freePort, NexusProcess, temporaryHome } from '../test/support/nexus-process.js';
import { embeddedUrl } from './embedded-url.js';
import { percentile, printTable } from './report.js';

const REQUESTS = 200;
const WARM_UP = 20;
const ROLL_UP_LIMIT_MS = 1_200_000;
/** Each source sends one metric 10,000 times in 24 hours, so more rows are more sources, as they are in life. */
const ROWS_PER_SOURCE = 10_000;
const STEPS = [1_000_000, 5_000_000];

/** Two queries of every day, at one and at five million rows of the last 24 hours, over HTTP and one at a time. */
export async function run(): Promise<void> {
  const home = temporaryHome();
  const nexus = await NexusProcess.start({
    home: home.path,
    port: await freePort(),
    env: { NEXUS_LOCAL_AGENT: 'false' },
  });
  const pool = new pg.Pool({ connectionString: embeddedUrl(home.path), max: 2 });
  const measured: { newest: number[]; series: number[] }[] = [];
  try {
    await touchDays(nexus);
    let sources = 0;
    for (const rows of STEPS) {
      const upTo = rows / ROWS_PER_SOURCE;
      await fill(pool, sources, upTo);
      sources = upTo;
      measured.push({
        newest: await time(nexus, sources, (source) => `/api/v1/telemetry/events?source=${source}&limit=100`),
        series: await time(nexus, sources, (source) => {
          const from = new Date(Date.now() - 86_400_000).toISOString();
          return `/api/v1/telemetry/metrics/query?metric_name=cpu&source=${source}&interval=5m&agg=avg&from=${from}`;
        }),
      });
    }
  } finally {
    await pool.end();
    await nexus.stop();
    home.remove();
  }
  const row = (name: string, of: 'newest' | 'series', wanted: string): (string | number)[] => {
    const [few, many] = measured.map((m) => m[of]);
    const growth = percentile(many, 50) / percentile(few, 50);
    return [name, percentile(few, 50), percentile(few, 99), percentile(many, 50), percentile(many, 99), growth, wanted];
  };
  printTable(
    ['query', 'p50 ms at 1 M', 'p99 ms at 1 M', 'p50 ms at 5 M', 'p99 ms at 5 M', 'growth (p50)', 'wanted at 5 M'],
    [
      row('newest 100 of one source', 'newest', 'p99 <= 20, growth <= 1.3'),
      row('24 h series at 5m', 'series', 'p99 <= 50, growth <= 1.3'),
    ],
  );
}

/** Lets the server make the partitions of yesterday and today. */
async function touchDays(nexus: NexusProcess): Promise<void> {
  const events = [0, 86_400_000].map((age) => ({
    event_type: 'bench',
    timestamp: new Date(Date.now() - age).toISOString(),
    data: {},
  }));
  await fetch(`${nexus.url}/api/v1/telemetry/batch`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${nexus.apiKey}` },
    body: JSON.stringify({ events }),
  });
}

/** Adds the events of sources `[from, to)` and waits until the server has rolled them up. */
async function fill(pool: pg.Pool, from: number, to: number): Promise<void> {
  await pool.query(
    `INSERT INTO telemetry_series (key, source, metric_name, tags, unit, event_type, first_seen, last_seen)
     SELECT gen_random_uuid(), 'host-' || n, 'cpu', '{"zone":"a"}', 'percent', 'system.metric', now() - interval '1 day', now()
     FROM generate_series($1::int, $2::int - 1) AS n`,
    [from, to],
  );
  // In the order of time, as events arrive.
  await pool.query(
    `INSERT INTO telemetry_events (event_id, ts, received_at, series_id, value, event_type, source, data)
     SELECT gen_random_uuid(), at, at, s.id, v, 'system.metric', s.source,
            jsonb_build_object('metric_name', 'cpu', 'value', v, 'unit', 'percent', 'tags', jsonb_build_object('zone', 'a'))
     FROM (SELECT now() - interval '24 hours' * (i / $3::float8) AS at FROM generate_series($3::int, 1, -1) AS i) times
     CROSS JOIN LATERAL (SELECT id, source, round((random() * 100)::numeric, 2)::float8 AS v FROM telemetry_series
                         WHERE metric_name = 'cpu' AND split_part(source, '-', 2)::int >= $1
                           AND split_part(source, '-', 2)::int < $2) s`,
    [from, to, ROWS_PER_SOURCE],
  );
  await pool.query(
    `INSERT INTO telemetry_dirty (resolution, bucket)
     SELECT 60, date_trunc('minute', now()) - n * interval '1 minute' FROM generate_series(0, 1440) AS n`,
  );
  await pool.query('VACUUM ANALYZE telemetry_events');
  const end = Date.now() + ROLL_UP_LIMIT_MS;
  for (;;) {
    const due = await pool.query(
      `SELECT 1 FROM telemetry_dirty WHERE bucket + (resolution + 15) * interval '1 second' < now() LIMIT 1`,
    );
    if (due.rowCount === 0) return;
    if (Date.now() > end) throw new Error('the rollups did not catch up');
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

async function time(nexus: NexusProcess, sources: number, path: (source: string) => string): Promise<number[]> {
  const headers = { authorization: `Bearer ${nexus.apiKey}` };
  const times: number[] = [];
  for (let i = -WARM_UP; i < REQUESTS; i++) {
    const start = performance.now();
    const response = await fetch(nexus.url + path(`host-${((i + WARM_UP) * 7919) % sources}`), { headers });
    const text = await response.text();
    if (response.status !== 200 || text.length < 1000) throw new Error(`${response.status} ${text.slice(0, 300)}`);
    if (i >= 0) times.push(performance.now() - start);
  }
  return times;
}
