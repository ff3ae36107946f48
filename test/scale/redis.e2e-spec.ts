import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AgentProcess } from '../support/agent-process.js';
import { eventually } from '../support/eventually.js';
import { freePort, NexusProcess, temporaryHome } from '../support/nexus-process.js';
import { RedisServer, redisInstalled } from '../support/redis.js';
import { createTestDatabase } from '../support/test-database.js';

/** The same code as many processes: two APIs and a worker on an external PostgreSQL and a real Redis. */
describe.skipIf(!redisInstalled)('two APIs and a worker on PostgreSQL and Redis', () => {
  const homes = [temporaryHome(), temporaryHome(), temporaryHome()];
  let database: { url: string; drop(): Promise<void> };
  let redis: RedisServer;
  let first: NexusProcess;
  let second: NexusProcess;
  let worker: NexusProcess;
  let key: string;
  let startWorker: () => Promise<NexusProcess>;

  const call = async <T>(
    nexus: NexusProcess,
    method: string,
    path: string,
    body?: object,
    as = key,
  ): Promise<{ status: number; headers: Headers; body: T }> => {
    const response = await fetch(`${nexus.url}/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${as}`, ...(body ? { 'content-type': 'application/json' } : {}) },
      body: body && JSON.stringify(body),
    });
    return { status: response.status, headers: response.headers, body: (await response.json()) as T };
  };

  beforeAll(async () => {
    database = await createTestDatabase();
    redis = await RedisServer.start();
    const env = {
      DATABASE_URL: database.url,
      REDIS_URL: redis.url,
      NEXUS_MASTER_KEYS: `k1:${randomBytes(32).toString('base64')}`,
      NEXUS_DB_POOL: '4',
      NEXUS_EGRESS_ALLOW: '127.0.0.1',
    };
    const start = async (role: string, home: number, extra: Record<string, string> = {}): Promise<NexusProcess> =>
      NexusProcess.start({
        home: homes[home].path,
        port: await freePort(),
        env: { ...env, NEXUS_ROLE: role, ...extra },
      });
    // At once: migrations and the first administrator must come out right.
    [first, second] = await Promise.all([
      start('api', 0, { NEXUS_RATE_LIMITS: 'on' }),
      start('api', 1, { NEXUS_RATE_LIMITS: 'on' }),
    ]);
    startWorker = () => start('worker', 2);
    worker = await startWorker();
    key = (first.apiKey ?? second.apiKey) as string;
  }, 120_000);

  afterAll(async () => {
    await Promise.all([first, second, worker].map((p) => p?.stop()));
    await redis?.stop();
    await database?.drop();
    for (const home of homes) home.remove();
  });

  it('made one administrator though both started at once', () => {
    expect([first.apiKey, second.apiKey].filter(Boolean)).toHaveLength(1);
  });

  it('runs a command created on one API on an agent linked to the other', async () => {
    const token = await call<{ token: string }>(first, 'POST', '/ai/agents/join-tokens', {});
    const home = temporaryHome();
    const agent = AgentProcess.start({ url: second.url, home: home.path, name: 'far-away', join: token.body.token });
    await eventually(async () => {
      const { body } = await call<{ agents: object[] }>(first, 'GET', '/ai/agents?status=active');
      return body.agents.length === 1;
    }, 20_000);
    const command = await call<{ command_id: string }>(first, 'POST', '/commands', {
      command_type: 'system.ping',
      target: 'far-away',
    });
    expect(command.status).toBe(201);
    const done = await eventually(async () => {
      const { body } = await call<{ status: string }>(second, 'GET', `/commands/${command.body.command_id}`);
      return body.status === 'completed' && body;
    });
    expect(done.status).toBe('completed');
    await agent.end('SIGTERM');
    home.remove();
  });

  it('refuses a key on every API once one of them has revoked it', async () => {
    const made = await call<{ data: { api_key: { id: string; key: string } } }>(first, 'POST', '/auth/api-keys', {
      name: 'short',
      permissions: ['telemetry:read'],
    });
    expect(made.status).toBe(201);
    const { id, key: short } = made.body.data.api_key;
    expect((await call(second, 'GET', '/auth/me', undefined, short)).status).toBe(200);
    expect((await call(first, 'DELETE', `/auth/api-keys/${id}`)).status).toBe(200);
    expect((await call(first, 'GET', '/auth/me', undefined, short)).status).toBe(401);
    await eventually(async () => (await call(second, 'GET', '/auth/me', undefined, short)).status === 401, 1000);
  });

  it('counts the rate limit of a principal across both', async () => {
    const remaining = async (nexus: NexusProcess): Promise<number> =>
      Number((await call(nexus, 'GET', '/ai/agents')).headers.get('x-ratelimit-remaining'));
    const a = await remaining(first);
    const b = await remaining(second);
    expect(b).toBe(a - 1);
  });

  it('goes on when Redis loses its data: schedules run again and events of before are handled', async () => {
    const observer = new Client({ connectionString: database.url });
    await observer.connect();
    const webhook = await call<{ webhook_id: string }>(first, 'POST', '/webhooks', {
      url: 'http://127.0.0.1:9/hook',
      events: ['ai.agent_registered'],
    });
    expect(webhook.status).toBe(201);
    // The number that tells of the loss is in Redis.
    await eventually(async () => {
      const { rows } = await observer.query<{ value: string }>('SELECT value FROM event_store_marker');
      return Number(rows[0].value) > 0;
    });
    await worker.stop();
    const agent = { agent_name: 'flushed', agent_type: 'host', version: '1.0.0', capabilities: [] };
    expect((await call(first, 'POST', '/ai/agents', agent)).status).toBe(201);
    await eventually(async () => {
      const { rows } = await observer.query('SELECT 1 FROM events WHERE relayed_at IS NULL');
      return rows.length === 0;
    });
    await redis.loseData();
    worker = await startWorker();
    await eventually(async () => {
      const { rows } = await observer.query(
        `SELECT 1 FROM webhook_deliveries WHERE event_type = 'ai.agent_registered'`,
      );
      return rows.length === 1;
    }, 30_000);

    await redis.loseData();
    const { rows } = await observer.query<{ now: Date }>('SELECT now() AS now');
    await eventually(async () => {
      const ran = await observer.query(
        "SELECT 1 FROM schedule_runs WHERE job = $1 AND last_run_at > $2::timestamptz + interval '16 seconds'",
        ['agents.sweep', rows[0].now],
      );
      return ran.rows.length === 1;
    }, 60_000);
    await observer.end();
  });

  it('answers probes and nothing else in the role worker', async () => {
    expect((await fetch(`${worker.url}/readyz`)).status).toBe(200);
    expect((await fetch(`${worker.url}/metrics`)).status).toBe(200);
    expect((await call(worker, 'GET', '/ai/agents')).status).toBe(404);
  });

  it('log one line a minute of connections that fail while Redis is away', async () => {
    const lines = (): number =>
      worker.output.split('\n').filter((line) => /connection failed|lost Redis|was lost/.test(line)).length;
    await redis.stop();
    await eventually(() => lines() > 0);
    // Each client tries again several times while these are answered.
    for (let request = 0; request < 100; request++) {
      await fetch(`${worker.url}/healthz`);
      await delay(20);
    }
    expect(lines()).toBe(1);
  });
});
