import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { INestApplication } from '@nestjs/common';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startLocalAgent } from '../../src/local-agent.js';
import { Settings } from '../../src/platform/config/index.js';
import { readSettings } from '../../src/settings.js';
import { actor } from '../support/actors.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { eventually } from '../support/eventually.js';

let app: TestApp;
let admin: string;
const home = mkdtempSync(path.join(os.tmpdir(), 'nexus-local-'));
const folder = path.join(home, 'local-agent');

beforeAll(async () => {
  app = await startTestApp();
  admin = (await actor(app)).key;
});
afterAll(async () => {
  await app.stop();
  rmSync(home, { recursive: true, force: true });
});

function start(on: TestApp): Promise<{ stop(): Promise<void> }> {
  return startLocalAgent({
    settings: readSettings({ NEXUS_HOME: home, NEXUS_HOST: '127.0.0.1' }).get(Settings),
    port: Number(new URL(on.url).port),
    app: { get: (token: never) => on.get(token) } as Pick<INestApplication, 'get'>,
  });
}

async function connected(on: TestApp, key: string): Promise<Record<string, unknown>> {
  return eventually(async () => {
    const { body } = await on.call<{ agents: Record<string, unknown>[] }>('GET', '/api/v1/ai/agents', { key });
    return body.agents.find((a) => a.agent_name === 'local' && a.connected === true);
  }, 20_000);
}

const identity = (): Record<'agent_id' | 'api_key' | 'signing_key', string> =>
  JSON.parse(readFileSync(path.join(folder, 'identity.json'), 'utf8')) as ReturnType<typeof identity>;

describe('the local agent', () => {
  it('joins by itself, and comes back after its process was killed', async () => {
    const agent = await start(app);
    const first = await connected(app, admin);
    expect(first).toMatchObject({
      agent_type: 'host',
      status: 'active',
      hostname: os.hostname(),
      labels: { env: 'development', group: 'local' },
    });
    expect(identity().agent_id).toBe(first.agent_id);
    expect(statSync(path.join(folder, 'identity.json')).mode & 0o777).toBe(0o600);

    const { pid } = JSON.parse(readFileSync(path.join(folder, 'lock'), 'utf8')) as { pid: number };
    process.kill(pid, 'SIGKILL');
    await eventually(async () => (await connected(app, admin)).connected_at !== first.connected_at, 20_000);
    await agent.stop();
    await eventually(async () => {
      const { body } = await app.call('GET', `/api/v1/ai/agents/${String(first.agent_id)}`, { key: admin });
      return body.status === 'offline';
    });
  });

  it('keeps its key over a restart', async () => {
    const before = identity();
    const agent = await start(app);
    await connected(app, admin);
    expect(identity()).toEqual(before);
    await agent.stop();
  });

  it('joins anew when the database does not know it', async () => {
    const before = identity();
    const fresh = await startTestApp();
    const agent = await start(fresh);
    const shown = await connected(fresh, (await actor(fresh)).key);
    expect(shown.agent_id).not.toBe(before.agent_id);
    expect(identity().agent_id).toBe(shown.agent_id);
    await agent.stop();
    await fresh.stop();
  });

  it('gets a new key when its own was voided', async () => {
    const first = await start(app);
    const { agent_id: id } = await connected(app, admin);
    const { api_key: voided, signing_key: signedBefore } = identity();
    await first.stop();
    await app.call('POST', `/api/v1/ai/agents/${String(id)}/rotate-key`, { key: admin });
    const second = await start(app);
    expect((await connected(app, admin)).agent_id).toBe(id);
    expect(identity().api_key).not.toBe(voided);
    expect(identity().signing_key).not.toBe(signedBefore);
    const pong = await app.call('POST', '/api/v1/commands', {
      key: admin,
      body: { command_type: 'system.ping', target: 'local' },
    });
    await eventually(async () => {
      const { body } = await app.call('GET', `/api/v1/commands/${String(pong.body.command_id)}`, { key: admin });
      return body.status === 'completed';
    });
    await second.stop();
  });
});
