import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { actor } from '../support/actors.js';
import { eventually, startTestApp, type TestApp } from '../support/app.js';
import { FakeAgent, registerAgent } from '../support/fake-agent.js';

const SCRIPT = fileURLToPath(new URL('../../scripts/seed.js', import.meta.url));
type Row = Record<string, unknown>;

describe('npm run seed', () => {
  let app: TestApp;
  let key: string;
  let agent: FakeAgent;

  beforeAll(async () => {
    app = await startTestApp();
    key = (await actor(app)).key;
    const commands = ['system.info', 'system.processes', 'system.ping'].map((type) => ({ type }));
    agent = await FakeAgent.connect(app.url, await registerAgent(app, key, { agent_name: 'local' }), { commands });
  });
  afterAll(async () => {
    await agent.close();
    await app.stop();
  });

  async function seed(env: Record<string, string>): Promise<{ code: number; output: string }> {
    const child = spawn(process.execPath, [SCRIPT], { env: { PATH: process.env['PATH'], NEXUS_URL: app.url, ...env } });
    const output: string[] = [];
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => output.push(String(chunk)));
    const [code] = (await once(child, 'close')) as [number];
    return { code, output: output.join('') };
  }

  async function list(path: string, field: string): Promise<Row[]> {
    const { body } = await app.call('GET', `/api/v1${path}`, { key });
    return ((body.data ?? body) as Record<string, Row[]>)[field];
  }

  /** How many there are of everything that the script makes. */
  async function inventory(): Promise<Row> {
    const [{ n }] = await app.db.query<{ n: number }>('SELECT count(*)::int AS n FROM telemetry_events');
    const counts: Row = { telemetry: n };
    for (const [path, field] of [
      ['/telemetry/rules', 'rules'],
      ['/telemetry/silences', 'silences'],
      ['/events/subscriptions', 'subscriptions'],
      ['/webhooks', 'webhooks'],
      ['/ai/agents', 'agents'],
      ['/events?source=demo-shop', 'events'],
      ['/commands', 'commands'],
      ['/auth/api-keys', 'api_keys'],
    ]) {
      counts[field] = (await list(path, field)).length;
    }
    return counts;
  }

  it('makes demo data that is worth a look, and adds nothing the second time', async () => {
    const first = await seed({ NEXUS_API_KEY: key });
    expect(first.output).toContain('nexus_api_');
    expect(first.code).toBe(0);
    const made = await inventory();
    expect(made).toMatchObject({ rules: 5, silences: 1, webhooks: 1, agents: 4, events: 6, commands: 3, api_keys: 2 });
    expect(made.telemetry).toBeGreaterThan(4000);
    const raised = await eventually(async () => {
      const alerts = await list('/telemetry/alerts?limit=100', 'alerts');
      return new Set(alerts.map(({ rule_name }) => rule_name)).size === 5 ? alerts : undefined;
    }, 40_000);
    expect(new Set(raised.map(({ status }) => status))).toEqual(new Set(['active', 'cleared']));
    expect(raised.some(({ silenced }) => silenced)).toBe(true);
    expect(await list('/webhooks', 'webhooks')).toMatchObject([{ active: false, status: 'paused' }]);

    const second = await seed({ NEXUS_API_KEY: key });
    expect(second.code).toBe(0);
    expect(second.output).toContain('telemetry events: 0 made');
    expect(second.output).not.toContain('nexus_api_');
    expect(await inventory()).toEqual(made);
    expect(await list('/telemetry/alerts?limit=100', 'alerts')).toHaveLength(raised.length);
  });

  it('says what is missing or wrong', async () => {
    expect(await seed({})).toMatchObject({ code: 2, output: expect.stringContaining('NEXUS_API_KEY') as string });
    const refused = await seed({ NEXUS_API_KEY: 'nexus_api_wrong' });
    expect(refused).toMatchObject({ code: 1, output: expect.stringContaining('401') as string });
    const away = await seed({ NEXUS_API_KEY: key, NEXUS_URL: 'http://127.0.0.1:9' });
    expect(away).toMatchObject({
      code: 1,
      output: expect.stringContaining('No answer from http://127.0.0.1:9') as string,
    });
  });
});
