import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sessionOptions } from '../../src/platform/database/index.js';
import { AgentProcess } from '../support/agent-process.js';
import { eventually } from '../support/eventually.js';
import { freePort, NexusProcess, temporaryHome } from '../support/nexus-process.js';
import { PgBouncer, pgbouncerInstalled } from '../support/pgbouncer.js';
import { createTestDatabase } from '../support/test-database.js';
import { Receiver } from '../webhooks/receiver.js';

const WRITES = 40;

const environment = (url: string, directUrl = ''): Record<string, string> => ({
  DATABASE_URL: url,
  DATABASE_DIRECT_URL: directUrl,
  NEXUS_MASTER_KEYS: `k1:${randomBytes(32).toString('base64')}`,
  NEXUS_DB_POOL: '8',
  NEXUS_EGRESS_ALLOW: '127.0.0.1',
});

/**
 * An API and a worker whose PostgreSQL is behind a real pooler: in session mode with as many connections as they need (21 and
 * 51), in transaction mode with four for both.
 */
describe.skipIf(!pgbouncerInstalled).each([
  { mode: 'session', poolSize: 72, direct: false },
  { mode: 'transaction', poolSize: 4, direct: true },
])('an API and a worker behind PgBouncer in $mode mode', ({ mode, poolSize, direct }) => {
  const homes = [temporaryHome(), temporaryHome(), temporaryHome()];
  let database: { url: string; drop(): Promise<void> };
  let bouncer: PgBouncer;
  let receiver: Receiver;
  let api: NexusProcess;
  let worker: NexusProcess;

  const call = async <T>(method: string, path: string, body?: object): Promise<{ status: number; body: T }> => {
    const response = await fetch(`${api.url}/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${api.apiKey}`, ...(body ? { 'content-type': 'application/json' } : {}) },
      body: body && JSON.stringify(body),
    });
    return { status: response.status, body: (await response.json()) as T };
  };

  beforeAll(async () => {
    database = await createTestDatabase();
    bouncer = await PgBouncer.start(database.url, mode, poolSize);
    receiver = await Receiver.start();
    const env = environment(bouncer.url, direct ? database.url : undefined);
    const start = async (role: string, home: string): Promise<NexusProcess> =>
      NexusProcess.start({ home, port: await freePort(), env: { ...env, NEXUS_ROLE: role } });
    api = await start('api', homes[0].path);
    worker = await start('worker', homes[1].path);
  }, 120_000);

  afterAll(async () => {
    await Promise.all([api, worker].map((one) => one?.stop()));
    await receiver?.stop();
    await bouncer?.stop();
    await database?.drop();
    for (const home of homes) home.remove();
  });

  it('stores every one of many writes that come at once', async () => {
    const metric = (name: string, value: number): object => ({
      source: 'pooled',
      event_type: 'system.metric',
      timestamp: new Date().toISOString(),
      data: { metric_name: name, value },
    });
    const answers = await Promise.all(
      Array.from({ length: WRITES }, async (_, index) => [
        (await call('POST', '/telemetry/events', metric('single', index))).status,
        (await call('POST', '/events', { event_type: 'order.made', source: 'shop', data: { index } })).status,
        (await call('POST', '/auth/api-keys', { name: `key${index}`, permissions: ['telemetry:read'] })).status,
        (await call('GET', '/ai/agents')).status,
      ]),
    );
    expect(answers.flat().filter((status) => status >= 300)).toEqual([]);
    const events = Array.from({ length: 1000 }, (_, index) => metric('many', index));
    expect((await call('POST', '/telemetry/batch', { events })).status).toBe(202);
    expect((await call('GET', '/telemetry/events?source=pooled&limit=1')).status).toBe(200);
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    const { rows } = await client.query(`SELECT count(*)::int AS n FROM telemetry_events WHERE source = 'pooled'`);
    await client.end();
    expect(rows).toEqual([{ n: WRITES + 1000 }]);
  });

  it('delivers an event of the API to a webhook', async () => {
    const webhook = await call('POST', '/webhooks', { url: receiver.url('/pooled'), events: ['order.paid'] });
    expect(webhook.status).toBe(201);
    expect((await call('POST', '/events', { event_type: 'order.paid', source: 'shop', data: {} })).status).toBe(201);
    await eventually(() => receiver.at('/pooled').length > 0);
    expect(receiver.at('/pooled')).toHaveLength(1);
  });

  it('runs a command on an agent', async () => {
    const token = await call<{ token: string }>('POST', '/ai/agents/join-tokens', {});
    const agent = AgentProcess.start({ url: api.url, home: homes[2].path, name: 'pooled', join: token.body.token });
    await eventually(async () => {
      const { body } = await call<{ agents: object[] }>('GET', '/ai/agents?status=active');
      return body.agents.length === 1;
    });
    const command = await call<{ command_id: string }>('POST', '/commands', {
      command_type: 'system.ping',
      target: 'pooled',
    });
    expect(command.status).toBe(201);
    await eventually(async () => {
      const { body } = await call<{ status: string }>('GET', `/commands/${command.body.command_id}`);
      return body.status === 'completed';
    });
    await agent.end('SIGTERM');
  });

  it('keeps its schedules and fails at none of their jobs', async () => {
    const runs = async (outcome: string): Promise<string[]> =>
      (await (await fetch(`${worker.url}/metrics`)).text())
        .split('\n')
        .filter((line) => line.startsWith('nexus_job_duration_seconds_count') && line.includes(`outcome="${outcome}"`));
    await eventually(async () =>
      (await runs('completed')).some((line) => line.includes('"command.sweep"') && Number(line.split(' ').at(-1)) > 2),
    );
    expect(await runs('failed')).toEqual([]);
    expect((await fetch(`${worker.url}/readyz`)).status).toBe(200);
  });
});

describe.skipIf(!pgbouncerInstalled)('A pool that shares its sessions', () => {
  const settings = { statement_timeout: 300, lock_timeout: 200, TimeZone: 'UTC' };
  let database: { url: string; drop(): Promise<void> };
  let bouncer: PgBouncer;
  let pool: pg.Pool;

  beforeAll(async () => {
    database = await createTestDatabase();
    bouncer = await PgBouncer.start(database.url, 'transaction', 2);
    pool = new pg.Pool({ connectionString: bouncer.url, max: 6, ...sessionOptions(settings, true) });
  });

  afterAll(async () => {
    await pool?.end();
    await bouncer?.stop();
    await database?.drop();
  });

  it('has its settings inside and outside of transactions, and leaves none to others', async () => {
    const shown = async (client: pg.Pool | pg.ClientBase): Promise<unknown> =>
      (await client.query<{ statement_timeout: string }>('SHOW statement_timeout')).rows[0].statement_timeout;
    expect(await shown(pool)).toBe('300ms');
    const client = await pool.connect();
    await client.query('BEGIN');
    expect(await shown(client)).toBe('300ms');
    await client.query('COMMIT');
    client.release();
    const other = new pg.Client({ connectionString: bouncer.url });
    await other.connect();
    expect(await shown(other)).toBe('0');
    await other.end();
  });

  it('ends a statement that takes too long, and goes on', async () => {
    await expect(pool.query('SELECT pg_sleep(20)')).rejects.toMatchObject({ code: '57014' });
    expect((await pool.query<{ one: number }>('SELECT $1::int AS one', [1])).rows).toEqual([{ one: 1 }]);
  });

  it('keeps no statement prepared, whichever connection it is given', async () => {
    const named = { name: 'test.named', text: 'SELECT $1::int AS n' };
    const answers = await Promise.all(
      Array.from({ length: 30 }, (_, n) => pool.query<{ n: number }>({ ...named, values: [n] })),
    );
    expect(answers.map(({ rows }) => rows[0].n)).toEqual(Array.from({ length: 30 }, (_, n) => n));
    const { rows } = await pool.query('SELECT name FROM pg_prepared_statements');
    expect(rows).toEqual([]);
  });

  it('reports what only the commit refuses', async () => {
    await pool.query(`CREATE TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)`);
    await expect(pool.query('INSERT INTO late VALUES (1), (1)')).rejects.toMatchObject({ code: '23505' });
    expect((await pool.query('SELECT * FROM late')).rows).toEqual([]);
  });
});

describe.skipIf(!pgbouncerInstalled)('A start behind a pooler that cannot work', () => {
  let database: { url: string; drop(): Promise<void> };
  let other: { url: string; drop(): Promise<void> };
  const home = temporaryHome();

  beforeAll(async () => {
    [database, other] = await Promise.all([createTestDatabase(), createTestDatabase()]);
  });

  afterAll(async () => {
    await database?.drop();
    await other?.drop();
    home.remove();
  });

  const refusalOf = async (mode: string, size: number, directUrl: (bouncer: PgBouncer) => string): Promise<string> => {
    const bouncer = await PgBouncer.start(database.url, mode, size);
    try {
      const env = environment(bouncer.url, directUrl(bouncer));
      const nexus = NexusProcess.launch({ home: home.path, port: await freePort(), env });
      expect(await nexus.exited).toBe(1);
      return nexus.output.trim();
    } finally {
      await bouncer.stop();
    }
  };

  it.each<[string, string, number, (bouncer: PgBouncer) => string, RegExp]>([
    ['transaction mode and no direct address', 'transaction', 10, () => '', /^DATABASE_URL .* set DATABASE_DIRECT_URL/],
    [
      'transaction mode for both',
      'transaction',
      10,
      ({ url }) => url,
      /^DATABASE_DIRECT_URL .* transaction mode: set it/,
    ],
    ['statement mode', 'statement', 10, () => '', /set the pooler to session or transaction mode\.$/],
    ['a direct address of another database', 'transaction', 10, () => other.url, /are different databases/],
    [
      'a pool of sessions that is too small',
      'session',
      20,
      () => '',
      /gives this process 20 connections, and it needs 51: /,
    ],
  ])('says what to set for %s', async (_case, mode, size, directUrl, sentence) => {
    const refusal = await refusalOf(mode, size, directUrl);
    expect(refusal).toMatch(sentence);
    expect(refusal.split('\n')).toHaveLength(1);
  });
});
