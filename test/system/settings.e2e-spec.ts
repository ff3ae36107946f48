import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { INestApplication } from '@nestjs/common';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import WebSocket from 'ws';
import { startLocalAgent } from '../../src/local-agent.js';
import { loadSettings } from '../../src/platform/config/index.js';
import { actor } from '../support/actors.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { eventually } from '../support/eventually.js';

const PREFIX = 'gateway/v2';
const API = `/${PREFIX}`;

describe('a server under another prefix', () => {
  let app: TestApp;
  let key: string;
  let folder: string;
  beforeAll(async () => {
    app = await startTestApp({ NEXUS_API_PREFIX: PREFIX });
    ({ key } = await actor(app));
    folder = mkdtempSync(path.join(os.tmpdir(), 'nexus-prefix-'));
  });
  afterAll(async () => {
    await app.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const joinToken = async (): Promise<Record<string, string>> =>
    (await app.call<Record<string, string>>('POST', `${API}/ai/agents/join-tokens`, { key, body: {} })).body;
  const connected = (name: string) =>
    eventually(async () => {
      const { body } = await app.call<{ agents: { agent_name: string; connected: boolean }[] }>(
        'GET',
        `${API}/ai/agents`,
        { key },
      );
      return body.agents.some((agent) => agent.agent_name === name && agent.connected);
    }, 30_000);

  it('answers every route there, probes and documents at the root, and nothing under the default', async () => {
    const { paths } = (
      await app.call<{ paths: Record<string, Record<string, { operationId: string }>> }>('GET', '/openapi.json')
    ).body;
    const atRoot = Object.keys(paths).filter((one) => !one.startsWith(`${API}/`));
    expect(atRoot).toEqual(expect.arrayContaining(['/health', '/metrics', '/docs', '/agent/nexus-agent.tgz']));
    for (const one of atRoot) expect(one).not.toMatch(/^\/(api|gateway)/);
    for (const [one, methods] of Object.entries(paths)) {
      if (!methods.get || atRoot.includes(one) || one.includes('{')) continue;
      // Streams stay open: that they are there is enough.
      const path = one.endsWith('/stream') ? `${one}?channels=none.such` : one;
      expect((await app.call('GET', path)).status, one).not.toBe(404);
    }
    const event = { event_type: 'system.metric', source: 'here', data: { metric_name: 'm', value: 1 } };
    expect((await app.call('POST', `${API}/telemetry/events`, { key, body: event })).status).toBe(201);
    expect((await app.call('POST', '/api/v1/telemetry/events', { key, body: event })).status).toBe(404);
    expect((await app.call('GET', '/gateway/v1/agents', { key })).body).toMatchObject({
      error: { code: 'UNSUPPORTED_VERSION', details: { supported: PREFIX } },
    });
    expect((await app.call('GET', '/openapi.json')).text).not.toContain('api/v1');
    for (const page of ['/docs', '/redoc']) expect((await app.call('GET', page)).status, page).toBe(200);
  });

  it('opens its streams and the link of an agent there', async () => {
    const { body: joined } = await app.call<Record<string, string>>('POST', `${API}/ai/agents/join`, {
      body: {
        token: (await joinToken()).token,
        agent_name: 'bare',
        agent_type: 'host',
        capabilities: [],
        version: '1.0.0',
        labels: {},
      },
    });
    expect(joined.link_path).toBe(`${API}/agents/link`);
    const tried = async (target: string, protocol: string[], bearer: string): Promise<number> => {
      const socket = new WebSocket(app.url.replace('http', 'ws') + target, protocol, {
        headers: { authorization: `Bearer ${bearer}` },
      });
      socket.on('error', () => undefined);
      const answer = await Promise.race([
        once(socket, 'open').then(() => 101),
        once(socket, 'unexpected-response').then(([, response]) => (response as { statusCode: number }).statusCode),
      ]);
      socket.terminate();
      return answer;
    };
    expect(await tried(joined.link_path, ['nexus.agent.v1'], joined.api_key)).toBe(101);
    expect(await tried('/api/v1/agents/link', ['nexus.agent.v1'], joined.api_key)).toBe(404);
    for (const target of [`${API}/stream`, `${API}/events/stream`, '/stream']) {
      expect(await tried(target, [], key), target).toBe(101);
    }
    expect(await tried('/api/v1/stream', [], key)).toBe(404);
  });

  it('is joined by the command that it prints, and by its own agent', async () => {
    const made = await joinToken();
    expect(made.agent_url).toBe(`${app.url}/agent/nexus-agent.tgz`);
    expect(made.join_command).toContain(`--url ${app.url}${API} --join`);
    const child = spawn('bash', ['-c', `exec 2>log; ${made.join_command}`], {
      cwd: folder,
      detached: true,
      stdio: 'ignore',
      env: { PATH: process.env.PATH, HOME: folder, NEXUS_AGENT_NAME: 'by-command' },
    });
    const local = await startLocalAgent({
      settings: loadSettings({ NEXUS_HOME: folder, NEXUS_API_PREFIX: PREFIX }),
      port: Number(new URL(app.url).port),
      app: { get: (token: never) => app.get(token) } as Pick<INestApplication, 'get'>,
    });
    try {
      await connected('by-command');
      await connected('local');
    } finally {
      const gone = once(child, 'exit');
      process.kill(-(child.pid as number), 'SIGKILL');
      await Promise.all([gone, local.stop()]);
    }
  });
});
