import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { finished } from 'node:stream/promises';
import autocannon from 'autocannon';
import pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import { freePort, NexusProcess, temporaryHome } from '../test/support/nexus-process.js';
import { embeddedUrl } from './embedded-url.js';
import { type CpuTimes, cpuTimes, perPiece } from './process-cpu.js';
import { median, printTable } from './report.js';

const ROUNDS = 5;
const SECONDS = 5;
const WARM_UP_SECONDS = 3;
const ROLL_UP_LIMIT_MS = 300_000;
const BATCH = 1000;
const BATCH_CONNECTIONS = 8;
const SINGLE_CONNECTIONS = 64;
const COLUMNS = 'event_id, ts, received_at, series_id, value, event_type, source, data, metadata';

interface Event {
  event_type: string;
  source: string;
  timestamp: string;
  data: { metric_name: string; value: number; unit: string; tags: Record<string, string> };
}

/**
 * Ingest over HTTP beside its ceilings: a bare COPY of the same rows into the same table, and a bare HTTP echo. The
 * ceiling is measured right after each round of ours, so that both have the same machine.
 */
export async function run(): Promise<void> {
  const home = temporaryHome();
  const nexus = await NexusProcess.start({
    home: home.path,
    port: await freePort(),
    env: { NEXUS_LOCAL_AGENT: 'false' },
  });
  const pool = new pg.Pool({ connectionString: embeddedUrl(home.path), max: BATCH_CONNECTIONS });
  try {
    await batches(nexus, home.path, pool);
    await pool.query('DROP TABLE bench_events');
    await rolledUp(pool);
    await singles(nexus, home.path);
  } finally {
    await pool.end();
    await nexus.stop();
    home.remove();
  }
}

async function batches(nexus: NexusProcess, home: string, pool: pg.Pool): Promise<void> {
  await load(nexus, '/api/v1/telemetry/batch', batchBodies(), BATCH_CONNECTIONS, WARM_UP_SECONDS);
  await scratchTable(pool);
  const http: number[] = [];
  const text: number[] = [];
  const cpu: { http: CpuTimes[]; text: CpuTimes[] } = { http: [], text: [] };
  const pid = nexus.child.pid as number;
  for (let round = 0; round < ROUNDS; round++) {
    const bodies = batchBodies();
    const [start, result] = [
      cpuTimes(pid, home),
      await load(nexus, '/api/v1/telemetry/batch', bodies, BATCH_CONNECTIONS, SECONDS),
    ];
    if (result.non2xx > 0 || result.errors > 0) throw new Error(`${result.non2xx} refused, ${result.errors} errors`);
    const middle = cpuTimes(pid, home);
    http.push((result['2xx'] * BATCH) / result.duration);
    cpu.http.push(perPiece(start, middle, result['2xx'] * BATCH));
    const bare = await bareCopy(pool);
    text.push(bare.rate);
    cpu.text.push(perPiece(middle, cpuTimes(pid, home), bare.rows));
  }
  const ratios = http.map((rate, i) => rate / text[i]);
  printTable(
    [
      'batches of 1000',
      'events/s (median)',
      'ratio (median)',
      'rounds',
      'CPU us/event: server, database, bench',
      'wanted',
    ],
    [
      [`bare COPY, ${BATCH_CONNECTIONS} connections`, median(text), 1, list(text), cpuText(cpu.text), '-'],
      [
        `POST /telemetry/batch, ${BATCH_CONNECTIONS} connections`,
        median(http),
        median(ratios),
        list(http),
        cpuText(cpu.http),
        '>= 0.8',
      ],
    ],
  );
}

async function singles(nexus: NexusProcess, home: string): Promise<void> {
  const echoPort = await freePort();
  const echo = spawn(process.execPath, ['-e', ECHO, String(echoPort)], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(echo.stdout, 'data');
  try {
    const bare = { url: `http://127.0.0.1:${echoPort}`, apiKey: '' };
    await load(nexus, '/api/v1/telemetry/events', singleBodies(), SINGLE_CONNECTIONS, WARM_UP_SECONDS);
    await load(bare, '/', singleBodies(), SINGLE_CONNECTIONS, WARM_UP_SECONDS);
    const rates: [number[], number[]] = [[], []];
    const p99: number[] = [];
    const cpu: CpuTimes[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const bodies = singleBodies();
      const start = cpuTimes(nexus.child.pid as number, home);
      const ours = await load(nexus, '/api/v1/telemetry/events', bodies, SINGLE_CONNECTIONS, SECONDS);
      if (ours.non2xx > 0 || ours.errors > 0) throw new Error(`${ours.non2xx} refused, ${ours.errors} errors`);
      cpu.push(perPiece(start, cpuTimes(nexus.child.pid as number, home), ours['2xx']));
      rates[0].push(ours['2xx'] / ours.duration);
      p99.push(ours.latency.p99);
      const theirs = await load(bare, '/', bodies, SINGLE_CONNECTIONS, SECONDS);
      rates[1].push(theirs['2xx'] / theirs.duration);
    }
    const ratio = median(rates[0].map((rate, i) => rate / rates[1][i]));
    printTable(
      [
        `single events, ${SINGLE_CONNECTIONS} connections`,
        'requests/s (median)',
        'ratio (median)',
        'p99 ms',
        'CPU us/request: server, database, bench',
        'wanted',
      ],
      [
        ['bare node:http echo', median(rates[1]), 1, '-', '-', '-'],
        ['POST /telemetry/events', median(rates[0]), ratio, median(p99), cpuText(cpu), '>= 0.3, p99 <= 50'],
      ],
    );
  } finally {
    echo.kill();
  }
}

/** Resolves once nothing that is due waits to be rolled up: what the last load left must not weigh on the next one. */
async function rolledUp(pool: pg.Pool): Promise<void> {
  const end = Date.now() + ROLL_UP_LIMIT_MS;
  for (;;) {
    const due = await pool.query(
      `SELECT 1 FROM telemetry_dirty WHERE bucket + (resolution + 10) * interval '1 second' < now() AND resolution < 3600 LIMIT 1`,
    );
    if (due.rowCount === 0) return;
    if (Date.now() > end) throw new Error('the rollups did not catch up');
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

function batchBodies(): string[] {
  return Array.from({ length: 40 }, (_, i) => JSON.stringify({ events: eventsOf(i) }));
}

function singleBodies(): string[] {
  return eventsOf(0)
    .slice(0, 200)
    .map((event) => JSON.stringify(event));
}

function cpuText(times: CpuTimes[]): string {
  const of = (name: keyof CpuTimes): string => median(times.map((t) => t[name])).toFixed(1);
  return `${of('server')}, ${of('database')}, ${of('bench')}`;
}

const ECHO = `
require('http').createServer((q, r) => {
  const c = [];
  q.on('data', (d) => c.push(d)).on('end', () => {
    const t = JSON.stringify(JSON.parse(Buffer.concat(c)));
    r.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(t) }).end(t);
  });
}).listen(Number(process.argv[1]), '127.0.0.1', () => console.log('ready'))`;

function load(
  target: { url: string; apiKey?: string },
  path: string,
  bodies: string[],
  connections: number,
  duration: number,
): Promise<autocannon.Result> {
  return autocannon({
    url: target.url + path,
    connections,
    duration,
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${target.apiKey}` },
    requests: bodies.map((body) => ({ method: 'POST', body })),
  });
}

/** A thousand points of 50 hosts with 20 metrics each. */
function eventsOf(batch: number): Event[] {
  const now = Date.now();
  return Array.from({ length: BATCH }, (_, i) => ({
    event_type: 'system.metric',
    source: `host-${i % 50}`,
    timestamp: new Date(now - batch * 10 - (i % 50)).toISOString(),
    data: {
      metric_name: `metric_${Math.floor(i / 50)}`,
      value: Math.round(Math.random() * 10_000) / 100,
      unit: 'percent',
      tags: { host: `server-${i % 50}`, environment: 'production' },
    },
  }));
}

/** A copy of the events table with the same columns, indexes and partitions. */
async function scratchTable(pool: pg.Pool): Promise<void> {
  await pool.query(`CREATE TABLE bench_events (LIKE telemetry_events INCLUDING ALL) PARTITION BY RANGE (ts)`);
  const day = new Date().toISOString().slice(0, 10);
  await pool.query(
    `CREATE TABLE bench_today PARTITION OF bench_events
     FOR VALUES FROM ('${day}'::timestamptz - interval '1 day') TO ('${day}'::timestamptz + interval '2 days')`,
  );
}

/** Rows per second of COPY with ready-made text, a thousand rows a transaction, over as many connections as the HTTP load. */
async function bareCopy(pool: pg.Pool): Promise<{ rows: number; rate: number }> {
  const chunks = Array.from({ length: 100 }, (_, i) => chunkOf(i));
  const end = performance.now() + SECONDS * 1000;
  const start = performance.now();
  let rows = 0;
  let next = 0;
  const worker = async (): Promise<void> => {
    const client = await pool.connect();
    while (performance.now() < end) {
      const chunk = chunks[next % chunks.length];
      // New ids for the rows of every round through the chunks, by changing a part of each that costs nothing to change.
      const turn = Math.floor(next++ / chunks.length);
      const stream = client.query(copyFrom(`COPY bench_events (${COLUMNS}) FROM STDIN`));
      stream.end(turn === 0 ? chunk : renew(chunk));
      await finished(stream);
      rows += BATCH;
    }
    client.release();
  };
  await Promise.all(Array.from({ length: BATCH_CONNECTIONS }, worker));
  return { rows, rate: rows / ((performance.now() - start) / 1000) };
}

function chunkOf(batch: number): Buffer {
  const now = new Date().toISOString();
  const lines = eventsOf(batch).map((event, i) => {
    const data = JSON.stringify(event.data);
    return [newId(), event.timestamp, now, i + 1, event.data.value, event.event_type, event.source, data, '\\N'].join(
      '\t',
    );
  });
  return Buffer.from(`${lines.join('\n')}\n`);
}

/** The same rows with new ids. */
function renew(chunk: Buffer): Buffer {
  const copy = Buffer.from(chunk);
  for (let at = 0; at >= 0 && at < copy.length; at = copy.indexOf(10, at) + 1) {
    copy.write(newId(), at);
    if (copy.indexOf(10, at) < 0) break;
  }
  return copy;
}

/** Like the ids that Nexus gives: the time first. */
function newId(): string {
  const time = Date.now().toString(16).padStart(12, '0');
  const random = randomBytes(10).toString('hex');
  return `${time.slice(0, 8)}-${time.slice(8)}-4${random.slice(0, 3)}-a${random.slice(3, 6)}-${random.slice(6, 18)}`;
}

function list(rates: number[]): string {
  return rates.map((rate) => `${Math.round(rate / 1000)}k`).join(' ');
}
