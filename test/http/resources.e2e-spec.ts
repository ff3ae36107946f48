import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Retention } from '../../src/platform/retention/index.js';
import { actor } from '../support/actors.js';
import { startTestApp, type TestApp } from '../support/app.js';

let app: TestApp;
let key: string;
let accessToken: string;
beforeAll(async () => {
  // Without workers what is queued stays so.
  app = await startTestApp({
    NEXUS_ROLE: 'api',
    NEXUS_MASTER_KEYS: `test:${randomBytes(32).toString('base64')}`,
    NEXUS_EGRESS_ALLOW: '127.0.0.1',
    NEXUS_ADMIN_PASSWORD: 'a long enough password',
  });
  ({ key } = await actor(app));
  accessToken = await login();
});
afterAll(() => app?.stop());

async function login(): Promise<string> {
  const { body } = await app.call<{ data: { tokens: { access_token: string } } }>('POST', '/api/v1/auth/login', {
    body: { username: 'admin', password: 'a long enough password' },
  });
  return body.data.tokens.access_token;
}

/** Makes a thing. @returns what the answer, or its envelope, or the only object in that, has under `name` */
async function made(name: string, path: string, body: object, as = key): Promise<string> {
  const answer = await app.call('POST', `/api/v1${path}`, { key: as, body });
  const data = (answer.body.data ?? answer.body) as Record<string, unknown>;
  const found = data[name] ?? (Object.values(data)[0] as Record<string, unknown> | undefined)?.[name];
  if (typeof found !== 'string') throw new Error(`${path}: ${answer.text}`);
  return found;
}

const unique = (): string => `n${randomUUID().slice(0, 8)}`;
const soon = (): string => new Date(Date.now() + 3_600_000).toISOString();

const agent = (capabilities: string[] = []): Promise<string> =>
  made('agent_id', '/ai/agents', { agent_name: unique(), agent_type: 'host', version: '1.0.0', capabilities });

/** Every route that deletes one thing, and how to get such a thing. */
const THINGS: Record<string, () => Promise<string>> = {
  '/ai/agents/{id}': () => agent(),
  '/ai/agents/join-tokens/{id}': () => made('join_token_id', '/ai/agents/join-tokens', {}),
  '/auth/api-keys/{id}': () => made('id', '/auth/api-keys', { name: unique(), permissions: ['system:read'] }),
  '/auth/sessions/{id}': async () => {
    const { sessions } = (await ownSessions()).data;
    const known = new Set(sessions.map(({ id }) => id));
    await login();
    return (await ownSessions()).data.sessions.find(({ id }) => !known.has(id))?.id as string;
  },
  '/commands/{id}': async () =>
    made('command_id', '/commands', { command_type: 'sync_state', target: await agent(['sync_state']) }),
  '/commands/types/{type}': () => made('type', '/commands/types', { type: `test.${unique()}` }),
  '/events/dead-letters/{id}': async () => {
    const event = { id: randomUUID(), type: 'command.queued', occurredAt: soon(), subject: null, data: {} };
    const [{ id }] = await app.db.query<{ id: string }>(
      `INSERT INTO event_dead_letters (handler, event_id, event_type, event, error, attempts)
       VALUES ('old.handler', $1, 'command.queued', $2, 'broken', 10) RETURNING id`,
      [event.id, JSON.stringify(event)],
    );
    return `dead_${id}`;
  },
  '/events/purge/{id}': () => made('purge_id', '/events/purge', { criteria: { older_than: '30d' } }),
  '/events/replay/{id}': () => made('replay_id', '/events/replay', REPLAY),
  '/events/subscriptions/{id}': () => made('subscription_id', '/events/subscriptions', SUBSCRIPTION()),
  '/hooks/{id}': () => made('hook_id', '/hooks', { name: unique() }),
  '/security/roles/{name}': () => made('name', '/security/roles', { name: unique(), scopes: ['system:read'] }),
  '/security/tokens/{id}': () => made('token_id', '/security/tokens', { name: unique(), scopes: ['system:read'] }),
  '/telemetry/rules/{id}': () =>
    made('rule_id', '/telemetry/rules', { name: unique(), metric_name: 'cpu', operator: 'gt', threshold: 1 }),
  '/telemetry/silences/{id}': () =>
    made('silence_id', '/telemetry/silences', { matchers: { severities: ['info'] }, ends_at: soon() }),
  '/webhooks/{id}': () => made('webhook_id', '/webhooks', { url: 'http://127.0.0.1:9/', events: ['agent.*'] }),
};
const SUBSCRIPTION = (): object => ({ name: unique(), event_patterns: ['command.*'], delivery_method: 'stream' });
const REPLAY = {
  event_filter: { start_time: '2026-01-01T00:00:00Z' },
  target_subscribers: ['webhooks.deliver'],
};

async function ownSessions(): Promise<{ data: { sessions: { id: string }[] } }> {
  const { body } = await app.call('GET', '/api/v1/auth/sessions', { key: accessToken });
  return body as never;
}

/** What a repeated request must get again: everything but the time and id of the answer. */
async function remove(template: string, id: string, as = template.includes('sessions') ? accessToken : key) {
  const path = `/api/v1${template.replace(/\{\w+\}/, id)}`;
  const { status, body } = await app.call('DELETE', path, { key: as });
  return { status, data: body.data ?? body };
}

const OTHER_RULE = { metric_name: 'cpu', operator: 'gt', threshold: 2 };
/** Every route that changes a resource, and a change that it takes. */
const CHANGES: Record<string, [method: 'PUT' | 'PATCH', body: () => object]> = {
  '/ai/agents/{id}': ['PATCH', () => ({ labels: { rack: unique() } })],
  '/commands/types/{type}': ['PUT', () => ({ description: unique() })],
  '/events/subscriptions/{id}': ['PUT', SUBSCRIPTION],
  '/hooks/{id}': ['PATCH', () => ({ description: unique() })],
  '/security/roles/{name}': ['PUT', () => ({ description: unique(), scopes: ['system:read'] })],
  '/telemetry/rules/{id}': ['PUT', () => ({ name: unique(), ...OTHER_RULE })],
  '/webhooks/{id}': ['PATCH', () => ({ description: unique() })],
};

describe('a write with If-Match', () => {
  it('is told of every route that changes a resource', async () => {
    const { body } = await app.call<{ paths: Record<string, object> }>('GET', '/openapi.json');
    const templates = Object.entries(body.paths)
      .filter(([path, operations]) => ('put' in operations || 'patch' in operations) && path.endsWith('}'))
      .map(([path]) => path.replace('/api/v1', ''));
    expect(templates.sort()).toEqual(Object.keys(CHANGES).sort());
  });

  it.each(Object.keys(CHANGES))('%s changes only what is as it was read', async (template) => {
    const [method, body] = CHANGES[template];
    const path = `/api/v1${template.replace(/\{\w+\}/, await THINGS[template]())}`;
    const write = async (tag: string | null) =>
      (await app.call(method, path, { key, body: body(), headers: tag === null ? {} : { 'if-match': tag } })).status;
    const read = (await app.call('GET', path, { key })).headers.get('etag');
    expect(read).toMatch(/^"v1/);
    expect(await write(read)).toBe(200);
    expect(await write(read)).toBe(412);
    expect(await write('"nonsense"')).toBe(412);
    expect(await write('*')).toBe(200);
    expect(await write(null)).toBe(200);
    const now = (await app.call('GET', path, { key })).headers.get('etag');
    const both = await Promise.all([write(now), write(now)]);
    expect(both.sort()).toEqual([200, 412]);
  });
});

describe('a repeated DELETE', () => {
  it('is told of every route that deletes one thing', async () => {
    const { body } = await app.call<{ paths: Record<string, object> }>('GET', '/openapi.json');
    const templates = Object.entries(body.paths)
      .filter(([path, operations]) => 'delete' in operations && path.endsWith('}'))
      .map(([path]) => path.replace('/api/v1', ''));
    expect(templates.sort()).toEqual(Object.keys(THINGS).sort());
  });

  it.each(Object.keys(THINGS))('%s gets the same answer', async (template) => {
    const id = await THINGS[template]();
    const first = await remove(template, id);
    expect(first.status).toBe(200);
    expect(JSON.stringify(first.data)).not.toBe('{}');
    expect(await remove(template, id)).toEqual(first);
    const unknown = id.includes('_') ? `${id.split('_')[0]}_${randomUUID()}` : 'never.was';
    expect((await remove(template, unknown)).status).toBe(404);
  });

  it('gets the same answer when both are sent at once', async () => {
    for (const template of ['/webhooks/{id}', '/telemetry/rules/{id}', '/hooks/{id}', '/telemetry/silences/{id}']) {
      const id = await THINGS[template]();
      const [one, other] = await Promise.all([remove(template, id), remove(template, id)]);
      expect([one.status, other]).toEqual([200, one]);
    }
  });

  it("says nothing of another's", async () => {
    const template = '/events/subscriptions/{id}';
    const id = await THINGS[template]();
    expect((await remove(template, id)).status).toBe(200);
    expect((await remove(template, id, (await actor(app)).key)).status).toBe(404);
  });

  it('is known for a month', async () => {
    const [older, newer] = [await THINGS['/hooks/{id}'](), await THINGS['/hooks/{id}']()];
    for (const id of [older, newer]) await remove('/hooks/{id}', id);
    await app.db.query(`UPDATE deletions SET deleted_at = now() - interval '31 days' WHERE id = $1`, [older]);
    await app.get(Retention).run();
    expect((await remove('/hooks/{id}', older)).status).toBe(404);
    expect((await remove('/hooks/{id}', newer)).status).toBe(200);
  });
});
