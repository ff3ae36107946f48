import { spawnSync } from 'node:child_process';
import { Client } from 'pg';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { WORKER_QUEUES } from '../../src/platform/database/index.js';
import { JobRegistry } from '../../src/platform/jobs/index.js';
import { eventually, startTestApp, type TestApp } from '../support/app.js';

interface Detailed {
  status: string;
  components: Record<string, { status: string; details?: Record<string, unknown> }>;
}

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp();
});
afterAll(() => app.stop());

const detailed = async (): Promise<Detailed> =>
  (await app.call<Detailed & Record<string, unknown>>('GET', '/health/detailed')).body;

it('names every part of the server', async () => {
  const { status, components } = await detailed();
  expect(status).toBe('healthy');
  expect(Object.fromEntries(Object.entries(components).map(([name, { details }]) => [name, details]))).toMatchObject({
    api: { uptime_seconds: expect.any(Number) as number },
    database: { connections_max: 18 },
    queue: { carrier: 'postgresql', waiting: expect.any(Number) as number },
    bus: { carrier: 'postgresql' },
    telemetry: { queued_events: 0 },
    agents: { active: 0, offline: 0 },
    commands: { queued: 0, delivered: 0, running: 0 },
    alerts: { active: 0 },
    webhooks: { active: 0, disabled: 0, deliveries_pending: 0 },
    streams: { websocket: 0, sse: 0 },
  });
  expect(components.event_handlers.status).toBe('healthy');
});

const promtoolInstalled = spawnSync('promtool', ['--version']).status === 0;
const metricsOf = async (one: TestApp): Promise<string> => (await one.call('GET', '/metrics')).text;
const SHARED = /^nexus_(agents|queue_depth)\{|^nexus_(active_sessions|webhook_deliveries_pending) /m;

it('tells the metrics that processes share from one of them, and from another when that one stops', async () => {
  expect(await metricsOf(app)).toMatch(SHARED);
  const second = await startTestApp({ DATABASE_URL: app.db.url });
  try {
    const own = await metricsOf(second);
    expect(own).not.toMatch(SHARED);
    expect(own).toMatch(/^nexus_agent_links 0$/m);
    // As if the first had stopped.
    await app.db.query('DELETE FROM metrics_reporter');
    await eventually(async () => SHARED.test(await metricsOf(second)));
    await eventually(async () => !SHARED.test(await metricsOf(app)));
  } finally {
    await second.stop();
  }
  await eventually(async () => SHARED.test(await metricsOf(app)));
});

it.skipIf(!promtoolInstalled)('names its metrics as Prometheus asks for (needs promtool)', async () => {
  const { stdout, stderr, error } = spawnSync('promtool', ['check', 'metrics'], { input: await metricsOf(app) });
  expect(error).toBeUndefined();
  const complaints = `${stdout.toString()}${stderr.toString()}`.split('\n').filter((line) => line.includes('nexus_'));
  expect(complaints).toEqual([]);
});

it('uses no label that Prometheus gives to its targets', async () => {
  expect(await metricsOf(app)).not.toMatch(/^nexus_\w+\{([^}]*,)?(job|instance)="/m);
});

it('counts the connections of every queue with handlers in what a start asks for', () => {
  expect(app.get(JobRegistry).queues()).toHaveLength(WORKER_QUEUES);
});

it(
  'says what is wrong while the database is away, still shows metrics, and recovers',
  { timeout: 90_000 },
  async () => {
    const name = new URL(app.db.url).pathname.slice(1);
    const server = new Client({ connectionString: inject('postgresUrl') });
    await server.connect();
    try {
      await server.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`);
      // Not the server's own workers (autovacuum), which this role may not end.
      await server.query(
        'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND datname = $1',
        [name],
      );
      const away = await eventually(async () => {
        const now = await detailed();
        return now.status === 'unhealthy' && now.components.bus.status === 'unhealthy' && now;
      }, 30_000);
      expect(away.components).toMatchObject({ api: { status: 'healthy' }, database: { status: 'unhealthy' } });
      for (const [path, status] of [
        ['/health', 503],
        ['/health/detailed', 503],
        ['/api/v1/health', 503],
        ['/readyz', 503],
        ['/healthz', 200],
        ['/metrics', 200],
      ] as const) {
        expect((await app.call('GET', path)).status, path).toBe(status);
      }
      await server.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`);
      await eventually(async () => (await detailed()).status === 'healthy', 45_000);
      expect((await app.call('GET', '/readyz')).status).toBe(200);
    } finally {
      await server.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`);
      await server.end();
    }
  },
);
