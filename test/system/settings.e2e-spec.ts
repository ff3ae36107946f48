import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import os from 'node:os';
import path from 'node:path';
import type { INestApplication } from '@nestjs/common';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import WebSocket from 'ws';
import { startLocalAgent } from '../../src/local-agent.js';
import { Settings } from '../../src/platform/config/index.js';
import { readSettings } from '../../src/settings.js';
import { Logger } from '../../src/platform/observability/index.js';
import { Retention } from '../../src/platform/retention/index.js';
import { actor } from '../support/actors.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { eventually } from '../support/eventually.js';
import { WebhookBench } from '../webhooks/harness.js';

const PREFIX = 'gateway/v2';
const API = `/${PREFIX}`;
const ORIGIN = 'https://app.example.com';
const DAY = 86_400_000;

describe('a server with other settings of HTTP', () => {
  let app: TestApp;
  let key: string;
  let folder: string;
  beforeAll(async () => {
    app = await startTestApp({
      NEXUS_API_PREFIX: PREFIX,
      NEXUS_BODY_LIMIT: '2048',
      NEXUS_CORS_ORIGINS: ORIGIN,
      NEXUS_CORS_HEADERS: 'X-Wanted',
      NEXUS_CORS_METHODS: 'GET,PUT',
      NEXUS_DB_POOL: '4',
      NEXUS_LOG_LEVEL: 'fatal',
      NEXUS_RESPONSE_COMPRESSION: 'off',
      NEXUS_STREAM_CONNECTIONS: '2',
    });
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
      settings: readSettings({ NEXUS_HOME: folder, NEXUS_API_PREFIX: PREFIX }).get(Settings),
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

  it('takes a body up to its limit, and none larger', async () => {
    const bodyOf = (bytes: number): string => {
      const event = { event_type: 'system.test', source: 'here', data: { text: '' } };
      event.data.text = 'x'.repeat(bytes - JSON.stringify(event).length);
      return JSON.stringify(event);
    };
    const target = `${API}/telemetry/events`;
    expect((await app.call('POST', target, { key, body: bodyOf(2048) })).status).toBe(201);
    const refused = await app.call('POST', target, { key, body: bodyOf(2049) });
    expect(refused).toMatchObject({
      status: 413,
      body: { error: { message: expect.stringContaining('2048') as string } },
    });
    const slow = await app.call('POST', `${API}/events`, {
      key,
      body: { type: 'a.b', data: { text: 'x'.repeat(2048) } },
    });
    expect(slow.status).toBe(413);
  });

  it('lets pages of other origins send the listed headers and methods', async () => {
    const { status, headers } = await app.call('OPTIONS', `${API}/webhooks`, {
      headers: { origin: ORIGIN, 'access-control-request-method': 'PUT' },
    });
    expect([status, headers.get('access-control-allow-origin')]).toEqual([204, ORIGIN]);
    expect(headers.get('access-control-allow-headers')).toBe('X-Wanted');
    expect(headers.get('access-control-allow-methods')).toBe('GET,PUT');
  });

  it('holds so many streams of one key open, and no more', async () => {
    const { key: own } = await actor(app);
    const leave = new AbortController();
    const open = (): Promise<Response> =>
      fetch(`${app.url}${API}/events/stream`, { headers: { authorization: `Bearer ${own}` }, signal: leave.signal });
    try {
      const answers = [await open(), await open(), await open()];
      expect(answers.map(({ status }) => status)).toEqual([200, 200, 429]);
    } finally {
      leave.abort();
    }
  });

  it('opens so many connections for requests, and no more', async () => {
    const pids = await Promise.all(
      Array.from({ length: 12 }, async () => {
        const [{ pid }] = await app.db.query<{ pid: number }>(`SELECT pg_backend_pid() AS pid FROM pg_sleep(0.1)`);
        return pid;
      }),
    );
    expect(new Set(pids).size).toBeLessThanOrEqual(4);
    expect(new Set(pids).size).toBeGreaterThan(1);
  });

  it('logs from its level on', () => {
    expect(app.get(Logger)).toHaveProperty('pino.level', 'fatal');
  });

  it('compresses no answer when that is off', async () => {
    const { headers, text } = await app.call('GET', '/openapi.json', { headers: { 'accept-encoding': 'gzip, br' } });
    expect(text.length).toBeGreaterThan(1024);
    expect(headers.get('content-encoding')).toBeNull();
  });
});

describe('a server with other settings of what it keeps and sends', () => {
  let bench: WebhookBench;
  let app: TestApp;
  beforeAll(async () => {
    bench = await WebhookBench.start({
      NEXUS_ALERT_RETENTION_DAYS: '3',
      NEXUS_CORS_ENABLED: 'false',
      NEXUS_CORS_ORIGINS: ORIGIN,
      NEXUS_DOCS_ENABLED: 'off',
      NEXUS_TELEMETRY_MAX_FUTURE_SECONDS: '20',
      NEXUS_TELEMETRY_MAX_SERIES: '5',
      NEXUS_TELEMETRY_MAX_SERIES_PER_SOURCE: '2',
      NEXUS_TELEMETRY_ROLLUP_1M_DAYS: '2',
      NEXUS_TELEMETRY_ROLLUP_5M_DAYS: '4',
      NEXUS_TELEMETRY_ROLLUP_1H_DAYS: '6',
      NEXUS_TELEMETRY_ROLLUP_1D_DAYS: '8',
      NEXUS_WEBHOOK_CONCURRENCY: '3',
      NEXUS_WEBHOOK_DISABLE_AFTER: '2',
      NEXUS_WEBHOOK_MAX: '4',
    });
    ({ app } = bench);
  });
  afterAll(() => bench.stop());

  it('has no documents when they are off', async () => {
    for (const one of ['/docs', '/redoc', '/openapi.json', '/openapi.yaml', '/docs/swagger-start.js']) {
      const { status, text } = await app.call('GET', one, { key: bench.key });
      expect([one, status, text]).toEqual([one, 404, expect.stringContaining('NEXUS_DOCS_ENABLED')]);
    }
    expect((await app.call('GET', '/health')).status).toBe(200);
    const { status, body } = await app.call('GET', '/');
    expect([status, body]).toEqual([200, { name: 'Nexus', health: '/health', api: '/api/v1' }]);
  });

  it('lets no page of another origin in when that is off, listed or not', async () => {
    const { headers } = await app.call('GET', '/health', { headers: { origin: ORIGIN } });
    expect(headers.get('access-control-allow-origin')).toBeNull();
    const socket = new WebSocket(`${app.url.replace('http', 'ws')}/api/v1/stream`, {
      headers: { authorization: `Bearer ${bench.key}`, origin: ORIGIN },
    });
    socket.on('error', () => undefined);
    const [, response] = (await once(socket, 'unexpected-response')) as [unknown, { statusCode: number }];
    expect(response.statusCode).toBe(403);
  });

  it('takes a timestamp that is a little ahead, and no later one', async () => {
    const sent = async (aheadMs: number): Promise<number> => {
      const timestamp = new Date(Date.now() + aheadMs).toISOString();
      const body = { event_type: 'system.test', source: 'ahead', timestamp, data: { text: 'x' } };
      return (await app.call('POST', '/api/v1/telemetry/events', { key: bench.key, body })).status;
    };
    expect(await sent(15_000)).toBe(201);
    expect(await sent(40_000)).toBe(400);
  });

  it('stores events past the most series, and makes no series of them', async () => {
    const send = async (source: string): Promise<string[]> => {
      const events = ['a', 'b', 'c', 'd'].map((metric) => ({
        event_type: 'system.metric',
        source,
        data: { metric_name: metric, value: 1 },
      }));
      const { body } = await app.call<{ accepted_count: number; warnings?: { message: string }[] }>(
        'POST',
        '/api/v1/telemetry/batch',
        { key: bench.key, body: { events } },
      );
      expect(body.accepted_count).toBe(4);
      return (body.warnings ?? []).map(({ message }) => message);
    };
    const count = async (source: string): Promise<number> => {
      const rows = await app.db.query(`SELECT 1 FROM telemetry_series WHERE source LIKE $1`, [source]);
      return rows.length;
    };
    const told = expect.stringContaining('NEXUS_TELEMETRY_MAX_SERIES_PER_SOURCE') as string;
    expect(await send('series')).toEqual([told, told]);
    expect(await count('series')).toBe(2);
    const { body } = await app.call<{ events: object[] }>('GET', '/api/v1/telemetry/events?source=series', {
      key: bench.key,
    });
    expect(body.events).toHaveLength(4);
    const one = { event_type: 'system.metric', source: 'series', data: { metric_name: 'e', value: 1 } };
    const single = await app.call('POST', '/api/v1/telemetry/events', { key: bench.key, body: one });
    expect(single.body).toMatchObject({ status: 'accepted', warnings: [{ field: 'data', message: told }] });
    for (const source of ['series-2', 'series-3', 'series-4']) await send(source);
    // The events of the other tests have series, too.
    expect(await count('%')).toBe(5);
  });

  it('keeps rollups of each resolution for its days, and one more', async () => {
    const now = Date.now();
    const ages: [resolution: number, days: number][] = [
      [60, 2],
      [300, 4],
      [3600, 6],
      [86_400, 8],
    ];
    for (const [resolution, days] of ages) {
      for (const age of [days + 0.9, days + 1.1]) {
        await app.db.query(
          `INSERT INTO telemetry_rollups VALUES ($1, -1, to_timestamp($2 / 1000.0), 1, 1, 1, 1, now(), 1, '{}', '{}')`,
          [resolution, now - age * DAY],
        );
      }
    }
    await app.get(Retention).enforce(now);
    const left = await app.db.query<{ resolution: number; age: number }>(
      `SELECT resolution, round(($1 / 1000.0 - extract(epoch FROM bucket)) / 86400, 1)::float AS age
       FROM telemetry_rollups WHERE series_id = -1 ORDER BY resolution`,
      [now],
    );
    expect(left).toEqual(ages.map(([resolution, days]) => ({ resolution, age: days + 0.9 })));
  });

  it('deletes alerts that were cleared, and silences that ended, longer ago than their retention', async () => {
    for (const days of [2, 4]) {
      await app.db.query(
        `INSERT INTO alerts (id, rule_id, group_id, rule_name, severity, condition, grouping, tags, status, started_at, cleared_at)
         VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), $1, 'high', '> 1', '{}', '{}', 'cleared',
           now() - interval '9 days', now() - make_interval(days => $2))`,
        [`cleared-${days}`, days],
      );
      await app.db.query(
        `INSERT INTO alert_silences (id, comment, matchers, starts_at, ends_at, created_by)
         VALUES (gen_random_uuid(), $1, '[]', now() - interval '9 days', now() - make_interval(days => $2), 'user_test')`,
        [`ended-${days}`, days],
      );
    }
    await app.get(Retention).run();
    expect(await app.db.query(`SELECT rule_name FROM alerts`)).toEqual([{ rule_name: 'cleared-2' }]);
    expect(await app.db.query(`SELECT comment FROM alert_silences`)).toEqual([{ comment: 'ended-2' }]);
  });

  it('sends a webhook that answers well so many requests at once, and no more', async () => {
    const [busy, other] = [await bench.register(), await bench.register()];
    await bench.publish();
    await eventually(() => bench.receiver.at(busy.path).length === 1);
    await bench.finished(busy.id);
    const held: ServerResponse[] = [];
    bench.receiver.answer = (response, { path: at }) => {
      if (at === busy.path) held.push(response);
      else response.writeHead(204).end();
    };
    for (let n = 0; n < 8; n++) await bench.publish();
    // What the other webhook got of the same events was sent after what this one could get.
    await eventually(() => bench.receiver.at(other.path).length === 9 && held.length >= 3);
    expect(held).toHaveLength(3);
    bench.receiver.answer = (response) => response.writeHead(204).end();
    for (const response of held) response.writeHead(204).end();
    await eventually(() => bench.receiver.at(busy.path).length === 9);
    await bench.remove(busy.id, other.id);
  });

  it('has so many webhooks, those of event subscriptions included, and no more', async () => {
    const url = bench.receiver.url('/many');
    const subscription = { name: 'A', event_patterns: ['ai.*'], delivery_method: 'webhook', webhook_config: { url } };
    const post = (target: string, body: object) =>
      app.call<{ webhook_id: string; error: { details: object } }>('POST', `/api/v1${target}`, {
        key: bench.key,
        body,
      });
    expect((await post('/events/subscriptions', subscription)).status).toBe(201);
    const answers = await Promise.all(
      Array.from({ length: 6 }, () => post('/webhooks', { url, events: ['ai.agent_registered'] })),
    );
    const made = answers.filter(({ status }) => status === 201);
    expect(made).toHaveLength(3);
    for (const { status, body } of answers.filter((one) => !made.includes(one))) {
      expect([status, body.error.details]).toEqual([409, { limit: 4 }]);
    }
    expect((await post('/events/subscriptions', subscription)).status).toBe(409);
    await bench.remove(...made.map(({ body }) => body.webhook_id));
  });

  it('disables a webhook that has failed for so many seconds', async () => {
    const { id } = await bench.register({ retry_config: { max_retries: 0 } });
    const started = Date.now();
    bench.receiver.answer = (response) => response.writeHead(500).end();
    await eventually(async () => {
      await bench.publish();
      const { body } = await app.call('GET', `/api/v1/webhooks/${id}`, { key: bench.key });
      return body.status === 'disabled' && body.disabled_reason === 'failing';
    }, 20_000);
    expect(Date.now() - started).toBeGreaterThan(2000);
  });
});
