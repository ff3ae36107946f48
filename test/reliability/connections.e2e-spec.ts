import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/platform/database/index.js';
import { eventually } from '../support/eventually.js';
import { freePort, NexusProcess, temporaryHome } from '../support/nexus-process.js';

/** A PostgreSQL with so few connections that not all workers of a process find one while the test holds some. */
const MAX_CONNECTIONS = 60;
const RESERVED = 3;
const LEFT_FREE = 12;
const TICKS_PER_SECOND = 100;

const databaseHome = temporaryHome();
const home = temporaryHome();
const processes: NexusProcess[] = [];
let database: EmbeddedPostgres;
let holders: Client[] = [];

beforeAll(async () => {
  database = await startEmbeddedPostgres({
    home: databaseHome.path,
    extraSettings: { max_connections: String(MAX_CONNECTIONS) },
  });
});
afterEach(async () => {
  await Promise.all(processes.splice(0).map((nexus) => nexus.kill()));
  await release();
});
afterAll(async () => {
  await database.stop();
  for (const folder of [home, databaseHome]) folder.remove();
});

async function hold(count: number): Promise<void> {
  holders = Array.from({ length: count }, () => new Client({ connectionString: database.url }));
  await Promise.all(holders.map((client) => client.connect()));
}

async function release(): Promise<void> {
  await Promise.all(holders.splice(0).map((client) => client.end()));
}

async function launch(): Promise<NexusProcess> {
  const nexus = NexusProcess.launch({
    home: home.path,
    port: await freePort(),
    env: {
      DATABASE_URL: database.url,
      NEXUS_DB_POOL: '2',
      NEXUS_MASTER_KEYS: `k1:${randomBytes(32).toString('base64')}`,
    },
  });
  processes.push(nexus);
  return nexus;
}

/** Seconds of processor time that a process has used. */
function cpuSeconds({ child }: NexusProcess): number {
  const fields = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

it('keeps working while the database has too few connections, ends on SIGTERM, and recovers', async () => {
  await hold(MAX_CONNECTIONS - RESERVED - LEFT_FREE);
  const ended = await launch();
  await ended.says('too many clients already', 40_000);
  expect(ended.output).toContain(`${LEFT_FREE} free connections`);
  ended.child.kill('SIGTERM');
  expect(await Promise.race([ended.exited, delay(25_000, 'did not end', { ref: false })])).toBe(0);

  const nexus = await launch();
  await nexus.says('too many clients already', 40_000);
  const before = cpuSeconds(nexus);
  await delay(3000);
  expect(cpuSeconds(nexus) - before).toBeLessThan(1.5);
  await release();
  await eventually(async () => {
    const response = await fetch(`${nexus.url}/health`).catch(() => undefined);
    return response?.status === 200 && ((await response.json()) as { status: string }).status === 'healthy';
  }, 40_000);
  const observer = new Client({ connectionString: database.url });
  await observer.connect();
  // Every queue has its worker: each holds a connection that listens.
  await eventually(async () => {
    const { rows } = await observer.query<{ queues: number }>(
      `SELECT count(DISTINCT queue)::int AS queues FROM bullmq.job WHERE state = 'completed'`,
    );
    return rows[0].queues >= 4;
  });
  await observer.end();
  expect(await nexus.stop()).toBe(0);
}, 150_000);
