import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Agent, readConfig } from '@nexus/agent';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startTestApp, type TestApp } from '../support/app.js';
import { eventually } from '../support/eventually.js';
import { bare, FakeAgent, type RegisteredAgent } from '../support/fake-agent.js';
import { Harness } from './harness.js';

let nexus: Harness;
const agents: Agent[] = [];
let home: string;

beforeAll(async () => {
  nexus = await Harness.start();
  home = await mkdtemp(path.join(os.tmpdir(), 'nexus-agent-test-'));
});
afterAll(async () => {
  await nexus.stop();
  await rm(home, { recursive: true, force: true });
});
afterEach(async () => {
  for (const agent of agents.splice(0)) await agent.stop();
});

const config = readConfig({
  commands: {
    execute_task: { executable: process.execPath, args: ['-e', 'console.log("one"); console.error("two")'] },
    restart: { executable: process.execPath, args: ['-e', 'console.log("up"); setTimeout(() => {}, 60000)'] },
  },
});

async function start(agent: RegisteredAgent, options: { signingKey?: string } = {}): Promise<Agent> {
  const runtime = new Agent({
    ...options,
    url: nexus.app.url,
    key: agent.key,
    home: path.join(home, agent.uuid),
    intervalMs: 0,
    config,
  });
  agents.push(runtime);
  await runtime.start();
  await eventually(() => runtime.connected);
  return runtime;
}

describe('the real agent', () => {
  it('answers its built-ins and runs what its owner allows, with all output', async () => {
    const agent = await nexus.register();
    await start(agent);
    const ping = await nexus.until(await nexus.send(agent.name), 'completed');
    expect(ping.result?.success).toBe(true);
    const info = await nexus.until(await nexus.send(agent.name, { command_type: 'system.info' }), 'completed');
    expect(info.result?.data).toHaveProperty('hostname');
    const task = await nexus.until(await nexus.send(agent.name, { command_type: 'execute_task' }), 'completed');
    expect(task.result?.output.split('\n').sort().join(' ').trim()).toBe('one two');
    expect((await nexus.post({ command_type: 'deploy.app', target: agent.name })).status).toBe(422);
  });

  it('stops a running program when its command is cancelled or out of time', async () => {
    const agent = await nexus.register();
    await start(agent);
    const [unwanted, slow] = [
      await nexus.send(agent.name, { command_type: 'restart' }),
      await nexus.send(agent.name, { command_type: 'restart', timeout_seconds: 2 }),
    ];
    await eventually(async () => (await nexus.get(unwanted)).substatus === 'running');
    expect((await nexus.cancel(unwanted)).status).toBe(200);
    await eventually(async () => {
      const { timeline } = await nexus.get(unwanted);
      return timeline.some((entry) => entry.status === 'late_cancelled');
    });
    expect((await nexus.until(slow, 'timed_out')).result?.error?.code).toBe('TIMEOUT');
  });

  it('refuses what its signing key did not sign', async () => {
    const [agent, other] = [await nexus.register(), await nexus.register()];
    const keyOf = async ({ uuid }: RegisteredAgent): Promise<string> => {
      const sql = `SELECT public_key FROM agent_signing_keys WHERE agent_id = $1`;
      return (await nexus.app.db.query<{ public_key: string }>(sql, [uuid]))[0].public_key;
    };
    const wrong = await start(agent, { signingKey: await keyOf(other) });
    const refused = await nexus.until(await nexus.send(agent.name), 'failed');
    expect(refused.result?.error?.code).toBe('BAD_SIGNATURE');
    await wrong.stop();
    await start(agent, { signingKey: await keyOf(agent) });
    await nexus.until(await nexus.send(agent.name), 'completed');
  });

  it('gets what waited while it was away, once', async () => {
    const agent = await nexus.register();
    const first = await start(agent);
    await first.stop();
    const ids = [await nexus.send(agent.name), await nexus.send(agent.name, { command_type: 'execute_task' })];
    await start(agent);
    for (const id of ids) expect((await nexus.until(id, 'completed')).attempts).toBe(1);
  });
});

describe('two servers on one database', () => {
  let second: TestApp;
  beforeAll(async () => {
    second = await startTestApp({ DATABASE_URL: nexus.app.db.url });
  });
  afterAll(() => second.stop());

  it('bring a command, its cancel and its output across', async () => {
    const agent = await nexus.register();
    const fake = await FakeAgent.connect(second.url, agent);
    const done = await nexus.send(agent.name);
    fake.execute((await fake.command(done)).command_id, 'from afar');
    expect((await nexus.until(done, 'completed')).result?.output).toBe('from afar');
    const unwanted = await nexus.send(agent.name);
    await fake.command(unwanted);
    await nexus.cancel(unwanted);
    await fake.received('cancel', (frame) => frame.command_id === bare(unwanted));
    const followed = await nexus.send(agent.name);
    await fake.command(followed);
    fake.ack(followed);
    const stream = fetch(`${nexus.app.url}/api/v1/commands/${followed}/logs?follow=true`, {
      headers: { authorization: `Bearer ${nexus.admin}` },
    }).then((response) => response.text());
    fake.output(followed, 0, 'live');
    fake.result(followed, { output_bytes: 4 });
    expect(await stream).toContain('"data":"live"');
    await fake.close();
  });
});
