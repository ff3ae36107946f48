import http, { type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import pg from 'pg';
import { Pool } from 'undici';
import { freePort, NexusProcess, temporaryHome } from '../test/support/nexus-process.js';
import { type CpuTime, cpuBetween, cpuTime } from './cpu-time.js';
import { embeddedUrl } from './embedded-url.js';
import { median, percentile, printTable } from './report.js';

const WARM_UP = 300;
const BURST = 3000;
const BARE = 3000;
const IN_FLIGHT = 10;
const PACED = 160;
const PACE_MS = 50;
const DEAD = 100;
/** Pairs of runs, one alone and one beside the dead ones; every second pair the other way round, so that a drift of the machine cancels out. */
const PAIRS = 8;
/** Events before a run that are not measured: three seconds, until the sweep has offered what the dead ones have left. */
const SETTLE = 60;
/** Longer than a request to a dead receiver may take: from then on they are known to fail. */
const KNOWN_DEAD_EVENTS = 400;

/**
 * Deliveries to a sink on this machine: how many a second when many events wait, how soon after the commit at an even pace, and the same beside
 * a hundred receivers that hang. Runs with and without these take turns, so that what else the machine does weighs on both. Beside them a bare
 * sender of the same bodies to the same sink in the same run, and the CPU time of both processes.
 */
export async function run(): Promise<void> {
  const home = temporaryHome();
  const sink = await Sink.start();
  const nexus = await NexusProcess.start({
    home: home.path,
    port: await freePort(),
    env: { NEXUS_EGRESS_ALLOW: '127.0.0.0/8', NEXUS_LOCAL_AGENT: 'false' },
  });
  const db = new pg.Client({ connectionString: embeddedUrl(home.path) });
  await db.connect();
  try {
    const bench = new Bench(nexus, sink, db);
    await bench.register(sink.url('127.0.0.1', '/good'));
    await bench.burst(WARM_UP);
    const cpuNow = (): CpuTime => cpuTime(nexus.child.pid ?? 0, home.path);
    const bare = await bareSender(sink);
    const burstStart = cpuNow();
    const burst = await bench.burst(BURST);
    const burstCpu = cpuBetween(burstStart, cpuNow());
    const dead: string[] = [];
    for (let n = 0; n < DEAD; n++) dead.push(await bench.register(sink.url(`127.0.1.${n + 1}`, '/dead')));
    await bench.paced(KNOWN_DEAD_EVENTS);
    const runs = { alone: [] as Run[], beside: [] as Run[] };
    for (let pair = 0; pair < PAIRS; pair++) {
      for (const kind of pair % 2 === 0 ? (['alone', 'beside'] as const) : (['beside', 'alone'] as const)) {
        await bench.activate(dead, kind === 'beside');
        await bench.paced(SETTLE);
        const [start, log] = [cpuNow(), await bench.writeAheadLog()];
        const latencies = await bench.paced(PACED);
        const written = (await bench.writeAheadLog()) - log;
        runs[kind].push({ latencies, cpu: cpuBetween(start, cpuNow()), logBytes: written });
      }
    }
    const all = (kind: Run[]): number[] => kind.flatMap(({ latencies }) => latencies);
    const p95s = (kind: Run[]): number[] => kind.map(({ latencies }) => percentile(latencies, 95));
    const ratios = p95s(runs.beside).map((p95, round) => p95 / p95s(runs.alone)[round]);
    const logOf = (kind: Run[]): number => median(kind.map(({ logBytes }) => logBytes / PACED / 1024));
    const cpuOf = (kind: Run[], part: keyof CpuTime): number => median(kind.map(({ cpu }) => cpu[part] / PACED));
    printTable(
      ['figure', 'measured', 'wanted'],
      [
        [`deliveries per second, ${BURST} events waiting, every attempt logged`, burst, '>= 300'],
        ['CPU time per delivery, Node, ms', burstCpu.node / BURST, '-'],
        ['CPU time per delivery, PostgreSQL, ms', burstCpu.postgres / BURST, '-'],
        [`bare undici sender, ${IN_FLIGHT} at once on kept connections, requests per second`, bare, '-'],
        ['deliveries per bare request', burst / bare, '-'],
        [`commit to first attempt, ${1000 / PACE_MS} events per second, p50 ms`, percentile(all(runs.alone), 50), '-'],
        ['the same, p95 ms', percentile(all(runs.alone), 95), '<= 1000'],
        [`the same beside ${DEAD} receivers that hang, p50 ms`, percentile(all(runs.beside), 50), '-'],
        ['the same, p95 ms', percentile(all(runs.beside), 95), '-'],
        [
          'p95 beside them to p95 alone, all runs',
          percentile(all(runs.beside), 95) / percentile(all(runs.alone), 95),
          '<= 1.2',
        ],
        [`the same, median of ${PAIRS} pairs of runs`, median(ratios), '<= 1.2'],
        [
          'the lowest and the highest of them',
          `${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}`,
          '-',
        ],
        ['CPU time per event alone, Node, ms', cpuOf(runs.alone, 'node'), '-'],
        ['the same, PostgreSQL', cpuOf(runs.alone, 'postgres'), '-'],
        ['CPU time per event beside them, Node, ms', cpuOf(runs.beside, 'node'), '-'],
        ['the same, PostgreSQL', cpuOf(runs.beside, 'postgres'), '-'],
        ['write-ahead log per event alone, kB', logOf(runs.alone), '-'],
        ['the same beside them', logOf(runs.beside), '-'],
      ],
    );
  } finally {
    await db.end();
    await nexus.kill();
    sink.stop();
    home.remove();
  }
}

interface Run {
  /** Milliseconds from commit to first attempt. */
  latencies: number[];
  cpu: CpuTime;
  /** Of write-ahead log, checkpoints included. */
  logBytes: number;
}

/** Answers `/good` at once and `/dead` never; notes when each event first came in. */
class Sink {
  readonly arrivals = new Map<string, number>();

  private constructor(private readonly server: http.Server) {}

  static async start(): Promise<Sink> {
    const server = http.createServer();
    const sink = new Sink(server);
    server.on('request', (request: http.IncomingMessage, response: ServerResponse) => {
      const id = String(request.headers['webhook-id']);
      request.resume();
      if (request.url === '/dead') return;
      request.on('end', () => {
        if (!sink.arrivals.has(id)) sink.arrivals.set(id, Date.now());
        response.writeHead(204).end();
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
    return sink;
  }

  url(address: string, path: string): string {
    return `http://${address}:${(this.server.address() as AddressInfo).port}${path}`;
  }

  async reaches(count: number): Promise<void> {
    while (this.arrivals.size < count) await new Promise((resolve) => setTimeout(resolve, 2));
  }

  stop(): void {
    this.server.closeAllConnections();
    this.server.close();
  }
}

class Bench {
  constructor(
    private readonly nexus: NexusProcess,
    private readonly sink: Sink,
    private readonly db: pg.Client,
  ) {}

  /** @returns the id of the webhook */
  async register(url: string): Promise<string> {
    const { webhook_id } = await this.send<{ webhook_id: string }>('POST', '/webhooks', {
      url,
      events: ['ai.agent_registered'],
    });
    return webhook_id;
  }

  async activate(ids: string[], active: boolean): Promise<void> {
    for (const id of ids) await this.send('PATCH', `/webhooks/${id}`, { active });
  }

  /** Bytes of write-ahead log so far. */
  async writeAheadLog(): Promise<number> {
    const { rows } = await this.db.query<{ bytes: number }>(
      `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8 AS bytes`,
    );
    return rows[0].bytes;
  }

  /** Writes events straight into the outbox. @returns deliveries per second from the first to the last, log included */
  async burst(count: number): Promise<number> {
    const before = this.sink.arrivals.size;
    await this.db.query(
      `INSERT INTO events (id, type, subject, data, actor_id)
       SELECT gen_random_uuid(), 'ai.agent_registered', 'agent_' || n,
         jsonb_build_object('agent_id', 'agent_' || n, 'agent_name', 'bench', 'agent_type', 'bench'), 'system'
       FROM generate_series(1, $1::int) AS n`,
      [count],
    );
    await this.sink.reaches(before + 1);
    const start = performance.now();
    await this.sink.reaches(before + count);
    for (let left = 1; left > 0;) {
      const { rows } = await this.db.query<{ left: number }>(
        `SELECT count(*)::int AS left FROM webhook_deliveries WHERE status = 'pending'`,
      );
      left = rows[0].left;
    }
    return count / ((performance.now() - start) / 1000);
  }

  /** Real requests that publish an event each, at an even pace. @returns milliseconds from the commit to the first attempt of each */
  async paced(count: number): Promise<number[]> {
    const before = new Set(this.sink.arrivals.keys());
    const requests: Promise<unknown>[] = [];
    for (let n = 0; n < count; n++) {
      requests.push(this.send('POST', '/ai/agents', agent()));
      await new Promise((resolve) => setTimeout(resolve, PACE_MS));
    }
    await Promise.all(requests);
    await this.sink.reaches(before.size + count);
    const { rows } = await this.db.query<{ id: string; occurred_at: Date }>(
      `SELECT 'evt_' || id AS id, occurred_at FROM events WHERE type = 'ai.agent_registered'`,
    );
    const occurred = new Map(rows.map((row) => [row.id, row.occurred_at.getTime()]));
    return [...this.sink.arrivals]
      .filter(([id]) => !before.has(id))
      .map(([id, at]) => at - (occurred.get(id) ?? Number.NaN));
  }

  private async send<T>(method: string, path: string, body: object): Promise<T> {
    const response = await fetch(`${this.nexus.url}/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${this.nexus.apiKey}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`);
    return (await response.json()) as T;
  }
}

let agents = 0;

function agent(): object {
  return { agent_name: `bench-${++agents}`, agent_type: 'bench', capabilities: [], version: '1.0.0' };
}

/** Requests per second that a program without rows, signatures and checks makes to the same sink. */
async function bareSender(sink: Sink): Promise<number> {
  const url = new URL(sink.url('127.0.0.1', '/good'));
  const pool = new Pool(url.origin, { connections: IN_FLIGHT });
  const body = JSON.stringify({ id: 'evt_', type: 'ai.agent_registered', data: agent() });
  const known = new Set(sink.arrivals.keys());
  let sent = 0;
  const sender = async (): Promise<void> => {
    while (sent++ < BARE) {
      const headers = { 'content-type': 'application/json', 'webhook-id': 'bare' };
      const answer = await pool.request({ method: 'POST', path: url.pathname, headers, body });
      await answer.body.dump();
    }
  };
  const start = performance.now();
  await Promise.all(Array.from({ length: IN_FLIGHT }, sender));
  const seconds = (performance.now() - start) / 1000;
  await pool.close();
  for (const id of sink.arrivals.keys()) if (!known.has(id)) sink.arrivals.delete(id);
  return BARE / seconds;
}
