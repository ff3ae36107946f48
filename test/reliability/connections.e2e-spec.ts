import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { type EmbeddedPostgres, startEmbeddedPostgres, WORKER_QUEUES } from '../../src/platform/database/index.js';
import { eventually } from '../support/eventually.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { freePort, NexusProcess, temporaryHome } from '../support/nexus-process.js';

/** A PostgreSQL with so few connections that not all workers of a process find one while the test holds some. */
const MAX_CONNECTIONS = 60;
const RESERVED = 3;
const LEFT_FREE = 12;
const TICKS_PER_SECOND = 100;

const MASTER_KEYS = `k1:${randomBytes(32).toString('base64')}`;

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

async function launch(url = database.url): Promise<NexusProcess> {
  const nexus = NexusProcess.launch({
    home: home.path,
    port: await freePort(),
    env: {
      DATABASE_URL: url,
      NEXUS_DB_POOL: '2',
      NEXUS_MASTER_KEYS: MASTER_KEYS,
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
    const { rows } = await observer.query<{ listening: number }>(
      `SELECT count(*)::int AS listening FROM pg_stat_activity
       WHERE datname = current_database() AND query ~ '^-- Subscribe .*\\mLISTEN\\M'`,
    );
    return rows[0].listening >= WORKER_QUEUES;
  });
  await observer.end();
  expect(await nexus.stop()).toBe(0);
}, 150_000);

async function readiness({ url }: NexusProcess): Promise<number | undefined> {
  return (await fetch(`${url}/readyz`).catch(() => undefined))?.status;
}

it('says that a read-only database takes no changes, without a flood in the log, and goes on afterwards', async () => {
  const nexus = await launch();
  await eventually(async () => (await readiness(nexus)) === 200, 40_000);
  const admin = new Client({ connectionString: database.url });
  await admin.connect();
  const switchTo = async (mode: 'on' | 'off'): Promise<void> => {
    await admin.query('SET default_transaction_read_only = off');
    await admin.query(`ALTER ROLE nexus SET default_transaction_read_only = ${mode}`);
    await admin.query(
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()',
    );
  };
  await switchTo('on');
  try {
    await eventually(async () => (await readiness(nexus)) === 503);
    const login = await eventually(async () => {
      const response = await fetch(`${nexus.url}/api/v1/auth/login`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ username: 'admin', password: 'not the password' }),
      });
      return response.status === 503 && response;
    });
    expect(Number(login.headers.get('retry-after'))).toBeGreaterThan(0);
    const [cpu, lines] = [cpuSeconds(nexus), nexus.output.split('\n').length];
    await delay(10_000);
    expect(cpuSeconds(nexus) - cpu).toBeLessThan(5);
    expect(nexus.output.split('\n').length - lines).toBeLessThan(60);
  } finally {
    await switchTo('off');
    await admin.end();
  }
  await eventually(async () => (await readiness(nexus)) === 200, 40_000);
}, 120_000);

it('gives up connections to a database that has vanished without a word, and finds the one that follows', async () => {
  const proxy = await TcpProxy.start(Number(new URL(database.url).port));
  const url = new URL(database.url);
  url.port = String(proxy.port);
  const nexus = await launch(url.href);
  try {
    await eventually(async () => (await readiness(nexus)) === 200, 40_000);
    proxy.drop();
    await eventually(async () => (await readiness(nexus)) === 503, 20_000);
    proxy.restore();
    await eventually(async () => {
      const response = await fetch(`${nexus.url}/health`).catch(() => undefined);
      return response?.status === 200 && ((await response.json()) as { status: string }).status === 'healthy';
    }, 60_000);
  } finally {
    await nexus.kill();
    proxy.stop();
  }
}, 150_000);
