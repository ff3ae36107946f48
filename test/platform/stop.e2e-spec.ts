import { randomBytes, randomUUID } from 'node:crypto';
import { expect, it } from 'vitest';
import { readSettings } from '../../src/settings.js';
import { HealthRegistry } from '../../src/platform/observability/index.js';
import { startServer } from '../../src/server.js';
import { actor } from '../support/actors.js';
import { startTestApp } from '../support/app.js';
import { eventually } from '../support/eventually.js';
import { createTestDatabase } from '../support/test-database.js';
import { execute } from './harness.js';

const connected = (url: string): Promise<unknown[]> =>
  execute(url, 'SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()');

it('A stop under load answers what was begun, keeps its audit entries and leaves no connection', async () => {
  const database = await createTestDatabase();
  const app = await startTestApp({ DATABASE_URL: database.url });
  const { key } = await actor(app);
  const health = app.get(HealthRegistry);
  const answers: Promise<number>[] = [];
  for (let i = 0; i < 40; i++) {
    const body = { agent_name: `agent-${randomUUID()}`, agent_type: 'host', version: '1.0.0', capabilities: [] };
    answers.push(
      app.call('POST', '/api/v1/ai/agents', { key, body }).then(
        ({ status }) => status,
        () => 0,
      ),
    );
  }
  await Promise.race(answers);
  const stopped = app.stop();
  expect(health.state).toBe('draining');
  const statuses = await Promise.all(answers);
  await stopped;
  const made = statuses.filter((status) => status === 201).length;
  expect(made).toBeGreaterThan(0);
  expect(statuses.every((status) => [201, 503, 0].includes(status))).toBe(true);
  const [{ agents, entries }] = await execute<{ agents: number; entries: number }>(
    database.url,
    `SELECT (SELECT count(*)::int FROM agents) AS agents,
       (SELECT count(*)::int FROM audit_entries WHERE action = 'POST /api/v1/ai/agents' AND status_code = 201) AS entries`,
  );
  expect(agents).toBe(made);
  expect(entries).toBe(made);
  await eventually(async () => (await connected(database.url)).length === 0);
  await database.drop();
});

it('A stop ends in time when the database has gone', { timeout: 40_000 }, async () => {
  const database = await createTestDatabase();
  const settings = readSettings({
    PORT: '0',
    NEXUS_HOST: '127.0.0.1',
    NEXUS_LOG_LEVEL: 'silent',
    NEXUS_MASTER_KEYS: `test:${randomBytes(32).toString('base64')}`,
    DATABASE_URL: database.url,
  });
  const server = await startServer(settings, database.url);
  await eventually(async () => (await connected(database.url)).length > 5);
  await database.drop();
  const begin = performance.now();
  await server.stop();
  expect(performance.now() - begin).toBeLessThan(19_000);
});

it('A second start on the same database begins where the first one stopped', async () => {
  const database = await createTestDatabase();
  const first = await startTestApp({ DATABASE_URL: database.url });
  const { key } = await actor(first);
  await first.stop();
  const second = await startTestApp({ DATABASE_URL: database.url });
  expect((await second.call('GET', '/api/v1/security/audit', { key })).status).toBe(200);
  await second.stop();
  await database.drop();
});
