import autocannon from 'autocannon';
import pg from 'pg';
import { freePort, NexusProcess, temporaryHome } from '../test/support/nexus-process.js';
import { embeddedUrl } from './embedded-url.js';
import { type CpuTimes, cpuTimes, perPiece } from './process-cpu.js';
import { median, printTable } from './report.js';

const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 5);
const SECONDS = 5;
const BATCH = 1000;
const CONNECTIONS = 8;
const METRICS = 20;
const HOSTS = 50;
const RULES = 1000;
/** Rules about metrics that are sent; of these, those whose condition always holds. */
const MATCHING = 100;
const FIRING = 5;
/** Every process looks this often whether rules have changed, and a little more. */
const NOTICED_MS = 6000;

/**
 * Ingest of batches with no rule and with a thousand, a tenth of which are about the metrics that are sent and a few of those always
 * have an alert open for every host. Turn by turn on one server, so that both have the same machine.
 */
export async function run(): Promise<void> {
  const home = temporaryHome();
  const nexus = await NexusProcess.start({
    home: home.path,
    port: await freePort(),
    env: { NEXUS_LOCAL_AGENT: 'false' },
  });
  const pool = new pg.Pool({ connectionString: embeddedUrl(home.path), max: 1 });
  const pid = nexus.child.pid as number;
  const rates: Record<'without' | 'with', number[]> = { without: [], with: [] };
  const cpu: Record<'without' | 'with', CpuTimes[]> = { without: [], with: [] };
  try {
    await createRules(nexus);
    for (let round = -1; round < ROUNDS; round++) {
      for (const kind of ['without', 'with'] as const) {
        await enable(pool, kind === 'with');
        const before = cpuTimes(pid, home.path);
        const { rate, events } = await load(nexus);
        // The first round warms both up.
        if (round < 0) continue;
        rates[kind].push(rate);
        cpu[kind].push(perPiece(before, cpuTimes(pid, home.path), events));
      }
    }
    const { rows } = await pool.query<{ open: number; counted: string }>(
      `SELECT count(*)::int AS open, sum(count) AS counted FROM alerts WHERE clear_reason IS DISTINCT FROM 'manual'`,
    );
    const ratio = median(rates.with.map((rate, i) => rate / rates.without[i]));
    printTable(
      ['batches of 1000', 'events/s (median)', 'ratio (median)', 'CPU us/event: server, database', 'wanted'],
      [
        ['no rule', median(rates.without), 1, cpuText(cpu.without), '-'],
        [
          `${RULES} rules, ${MATCHING} of them about these metrics`,
          median(rates.with),
          ratio,
          cpuText(cpu.with),
          '>= 0.75',
        ],
      ],
    );
    console.log(`\n${rows[0].open} alerts raised in all, ${rows[0].counted} events counted by them.`);
  } finally {
    await pool.end();
    await nexus.stop();
    home.remove();
  }
}

async function createRules(nexus: NexusProcess): Promise<void> {
  for (let n = 0; n < RULES; n++) {
    const response = await fetch(`${nexus.url}/api/v1/telemetry/rules`, {
      method: 'POST',
      headers: { authorization: `Bearer ${nexus.apiKey}`, 'content-type': 'application/json' },
      body: JSON.stringify({
        name: `rule ${n}`,
        metric_name: n < MATCHING ? `metric_${n % METRICS}` : `other_${n}`,
        operator: 'gt',
        threshold: n < FIRING ? -1 : 100,
      }),
    });
    if (response.status !== 201) throw new Error(`rule not created: ${await response.text()}`);
  }
}

/** Straight in the table: what the server's own way does to open alerts is not what is measured here. */
async function enable(pool: pg.Pool, enabled: boolean): Promise<void> {
  await pool.query('UPDATE alert_rules SET enabled = $1, version = version + 1, updated_at = now()', [enabled]);
  await new Promise((resolve) => setTimeout(resolve, NOTICED_MS));
}

async function load(nexus: NexusProcess): Promise<{ rate: number; events: number }> {
  const result = await autocannon({
    url: `${nexus.url}/api/v1/telemetry/batch`,
    connections: CONNECTIONS,
    duration: SECONDS,
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${nexus.apiKey}` },
    requests: Array.from({ length: 40 }, (_, i) => ({ method: 'POST' as const, body: bodyOf(i) })),
  });
  if (result.non2xx > 0 || result.errors > 0) throw new Error(`${result.non2xx} refused, ${result.errors} errors`);
  const events = result['2xx'] * BATCH;
  return { rate: events / result.duration, events };
}

function bodyOf(batch: number): string {
  const now = Date.now();
  const events = Array.from({ length: BATCH }, (_, i) => ({
    event_type: 'system.metric',
    source: `host-${i % HOSTS}`,
    timestamp: new Date(now + batch).toISOString(),
    data: {
      metric_name: `metric_${Math.floor(i / HOSTS)}`,
      value: Math.round(Math.random() * 10_000) / 100,
      unit: 'percent',
      tags: { host: `server-${i % HOSTS}`, environment: 'production' },
    },
  }));
  return JSON.stringify({ events });
}

function cpuText(times: CpuTimes[]): string {
  return (['server', 'database'] as const).map((name) => median(times.map((one) => one[name])).toFixed(1)).join(', ');
}
