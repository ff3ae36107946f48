import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { freePort, NexusProcess, temporaryHome } from '../test/support/nexus-process.js';
import { type CpuTime, cpuBetween, treeCpuTime } from './cpu-time.js';
import { embeddedUrl } from './embedded-url.js';
import { percentile, printTable } from './report.js';

const EVERY_MS = 50;
const WARM_UP = 200;
const MEASURED = 600;
const SETTLE_MS = 5000;
const IDLE_MS = 30_000;
const TYPE = 'bench.measured';

/**
 * CPU time of an event that a caller emits and one webhook gets, at 20 events a second, of all processes of the server and its database;
 * receiver and load generator are this process. `NEXUS_BENCH_ROOT` measures the build in another checkout, to compare two builds in turns.
 */
export async function run(): Promise<void> {
  const home = temporaryHome();
  const arrivals = new Map<string, number>();
  const sink = await receiver(arrivals);
  const nexus = await NexusProcess.start({
    home: home.path,
    port: await freePort(),
    env: { NEXUS_EGRESS_ALLOW: '127.0.0.0/8' },
    root: process.env.NEXUS_BENCH_ROOT,
  });
  const db = new pg.Client({ connectionString: embeddedUrl(home.path) });
  await db.connect();
  try {
    const load = new Load(nexus, db, arrivals);
    await load.send('/webhooks', { url: `http://127.0.0.1:${(sink.address() as AddressInfo).port}/`, events: [TYPE] });
    await load.events(WARM_UP);
    await delay(SETTLE_MS);
    const idle = await measured(nexus, home.path, db, () => delay(IDLE_MS));
    const busy = await measured(nexus, home.path, db, () => load.events(MEASURED));
    const perEvent = (part: keyof CpuTime): number => busy.cpu[part] / MEASURED;
    // What the idle server spends in the time of one event.
    const idleShare = (part: keyof CpuTime): number => (idle.cpu[part] / idle.ms) * (busy.ms / MEASURED);
    const sum = (of: (part: keyof CpuTime) => number): number => of('node') + of('postgres');
    printTable(
      ['figure', 'measured', 'wanted'],
      [
        [`CPU time per event, ${1000 / EVERY_MS} events per second with a webhook, ms`, sum(perEvent), '<= 8'],
        ['of it Node', perEvent('node'), '-'],
        ['of it PostgreSQL', perEvent('postgres'), '-'],
        ['the same without what the idle server spends in that time', sum(perEvent) - sum(idleShare), '-'],
        ['of it Node', perEvent('node') - idleShare('node'), '-'],
        ['of it PostgreSQL', perEvent('postgres') - idleShare('postgres'), '-'],
        ['transactions per event', busy.commits / MEASURED, '-'],
        ['answer to arrival at the receiver, p95 ms', percentile(load.latencies.slice(-MEASURED), 95), '-'],
        ['CPU time per second of the idle server, Node, ms', (idle.cpu.node / idle.ms) * 1000, '-'],
        ['the same, PostgreSQL', (idle.cpu.postgres / idle.ms) * 1000, '-'],
        ['transactions per second of the idle server', (idle.commits / idle.ms) * 1000, '-'],
      ],
    );
  } finally {
    await db.end();
    await nexus.stop();
    sink.closeAllConnections();
    sink.close();
    home.remove();
  }
}

async function measured(
  nexus: NexusProcess,
  home: string,
  db: pg.Client,
  work: () => Promise<unknown>,
): Promise<{ cpu: CpuTime; ms: number; commits: number }> {
  const pid = nexus.child.pid ?? 0;
  const [start, cpu, commits] = [performance.now(), treeCpuTime(pid, home), await commitsOf(db)];
  await work();
  return {
    cpu: cpuBetween(cpu, treeCpuTime(pid, home)),
    ms: performance.now() - start,
    commits: (await commitsOf(db)) - commits,
  };
}

async function commitsOf(db: pg.Client): Promise<number> {
  const { rows } = await db.query<{ n: number }>(
    'SELECT xact_commit::float8 AS n FROM pg_stat_database WHERE datname = current_database()',
  );
  return rows[0].n;
}

async function receiver(arrivals: Map<string, number>): Promise<http.Server> {
  const server = http.createServer((request, response) => {
    arrivals.set(String(request.headers['webhook-id']), performance.now());
    request.resume().on('end', () => response.writeHead(204).end());
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return server;
}

class Load {
  readonly latencies: number[] = [];

  constructor(
    private readonly nexus: NexusProcess,
    private readonly db: pg.Client,
    private readonly arrivals: ReadonlyMap<string, number>,
  ) {}

  /** At an even pace; resolves when all have arrived and their attempts are logged. */
  async events(count: number): Promise<void> {
    const start = performance.now();
    const emitted: Promise<void>[] = [];
    for (let n = 0; n < count; n++) {
      await delay(Math.max(0, start + n * EVERY_MS - performance.now()));
      emitted.push(this.event(n));
    }
    await Promise.all(emitted);
    const pending = `SELECT 1 FROM webhook_deliveries WHERE status = 'pending' LIMIT 1`;
    while ((await this.db.query(pending)).rows.length > 0) await delay(20);
  }

  async send<T>(path: string, body: object): Promise<T> {
    const response = await fetch(`${this.nexus.url}/api/v1${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${this.nexus.apiKey}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`);
    return (await response.json()) as T;
  }

  private async event(n: number): Promise<void> {
    const body = { type: TYPE, data: { n, text: 'an event of a usual size', tags: { host: 'web-1', region: 'eu' } } };
    const { event } = (await this.send<{ data: { event: { event_id: string } } }>('/events', body)).data;
    const answered = performance.now();
    while (!this.arrivals.has(event.event_id)) await delay(5);
    this.latencies.push((this.arrivals.get(event.event_id) ?? 0) - answered);
  }
}
