import { afterAll, beforeAll, expect, it } from 'vitest';
import { ApiDocument } from '../../src/platform/http/index.js';
import { actor } from '../support/actors.js';
import { startTestApp, type TestApp } from '../support/app.js';

interface Operation {
  parameters?: { name: string; in: string }[];
}

interface Refusal {
  error: { details: { field: string; expected: string; location: string }[] };
}

interface Listed {
  pagination?: { limit: number; has_more: boolean };
}

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({ NEXUS_LOG_LEVEL: 'silent', NEXUS_EGRESS_ALLOW: '127.0.0.1' });
});
afterAll(() => app.stop());

it('is told what is wrong with a cursor that no list has given', async () => {
  const { key } = await actor(app);
  const { paths } = app.get(ApiDocument).get() as unknown as { paths: Record<string, Record<string, Operation>> };
  const lists = Object.entries(paths)
    .filter(([path, { get }]) => !path.includes('{') && get?.parameters?.some(({ name }) => name === 'cursor'))
    .map(([path, { get }]) =>
      get.parameters?.some(({ name }) => name === 'metric_name') ? `${path}?metric_name=cpu&` : `${path}?`,
    );
  expect(lists.length).toBeGreaterThan(10);
  const foreign = [
    [],
    [1],
    ['a'],
    [null, null],
    ['2025-01-15T10:30:00.000Z', 'x'],
    ['a', 'b', 'c'],
    [{}, []],
    [-1, 1e300],
  ];
  const wrong: unknown[] = [];
  for (const path of lists) {
    for (const keys of foreign) {
      const cursor = Buffer.from(JSON.stringify(keys)).toString('base64url');
      const { status, body } = await app.call<Refusal>('GET', `${path}cursor=${cursor}`, { key });
      // Lists of names go on after any name.
      if (status === 200 && keys[0] === 'a' && keys.length === 1) continue;
      const issue = status === 400 ? body.error.details[0] : undefined;
      if (!issue?.expected || issue.location !== 'query') wrong.push({ path, keys, body });
    }
  }
  expect(wrong).toEqual([]);
}, 120_000);

it('gives every list its default size and refuses more than the largest', async () => {
  const { key } = await actor(app);
  const webhook = await app.call<{ webhook_id: string }>('POST', '/api/v1/webhooks', {
    key,
    body: { url: 'http://127.0.0.1:9/', events: ['task.completed'], active: false },
  });
  expect(webhook.status, webhook.text).toBe(201);
  for (let n = 0; n < 21; n++) {
    await app.call('POST', '/api/v1/ai/agents/join-tokens', { key, body: {} });
  }
  const { paths } = app.get(ApiDocument).get() as unknown as { paths: Record<string, Record<string, Operation>> };
  const lists = Object.keys(paths).filter((path) => paths[path].get?.parameters?.some(({ name }) => name === 'limit'));
  expect(lists.length).toBeGreaterThan(20);
  const wrong: unknown[] = [];
  for (const path of lists) {
    const full = path.replace('{id}', webhook.body.webhook_id);
    const more = paths[path].get.parameters?.some(({ name }) => name === 'metric_name') ? 'metric_name=cpu&' : '';
    const [size, largest] = /telemetry\/(events|metrics|sources)$/.test(path) ? [100, 1000] : [20, 100];
    const ask = (query: string) =>
      app.call<{ data?: Listed } & Listed & Refusal>('GET', `${full}?${more}${query}`, { key });
    const { status, body } = await ask('');
    const { pagination } = body.data ?? body;
    if (status !== 200 || pagination?.limit !== size) wrong.push({ path, status, pagination });
    if (path.endsWith('join-tokens')) expect(pagination).toMatchObject({ limit: 20, has_more: true });
    const most = await ask(`limit=${largest}`);
    if (most.status !== 200) wrong.push({ path, most: most.body });
    for (const [field, value] of [
      ['limit', largest + 1],
      ['per_page', largest + 1],
      ['limit', 0],
      ['limit', -1],
    ]) {
      const refused = await ask(`${field}=${value}`);
      const issue = refused.status === 400 ? refused.body.error.details[0] : undefined;
      if (issue?.field !== field || !issue.expected) wrong.push({ path, field, value, refused: refused.body });
    }
  }
  expect(wrong).toEqual([]);
}, 120_000);

it('leads through every list, item by item', async () => {
  const { key, userId } = await actor(app);
  const make = (path: string, body: object): Promise<unknown> => app.call('POST', `/api/v1${path}`, { key, body });
  for (const n of [1, 2, 3]) {
    const agent = { agent_type: 'service', capabilities: ['test'], version: '1.0.0' };
    await make('/ai/agents', { ...agent, agent_name: `cursor-${n}` });
    await make('/ai/agents/join-tokens', {});
    await make('/auth/api-keys', { name: `cursor-${n}`, permissions: ['system:read'] });
    await make('/security/tokens', { name: `cursor-${n}`, scopes: ['system:read'] });
    await make('/security/roles', { name: `cursor-${n}`, scopes: ['system:read'] });
    await make('/commands/types', { type: `cursor.type${n}` });
    await app.db.query(
      `INSERT INTO sessions (id, user_id, remember, expires_at)
       VALUES (gen_random_uuid(), $1, false, now() + interval '1 hour')`,
      [userId],
    );
  }
  const lists = {
    '/ai/agents': 'agents',
    '/ai/agents/join-tokens': 'join_tokens',
    '/auth/api-keys': 'data.api_keys',
    '/security/tokens': 'tokens',
    '/commands/types': 'types',
    '/auth/sessions': 'data.sessions',
    '/security/roles': 'roles',
    '/auth/roles': 'data.roles',
    '/webhooks/event-types': 'event_types',
  };
  for (const [path, name] of Object.entries(lists)) {
    const page = async (query: string): Promise<{ items: unknown[]; next: string | null; total: number }> => {
      const { body, text } = await app.call<Record<string, unknown>>('GET', `/api/v1${path}?${query}`, { key });
      const data = (name.startsWith('data.') ? body.data : body) as Record<string, unknown> | undefined;
      const items = data?.[name.replace('data.', '')];
      expect(items, `${path} ${text}`).toBeInstanceOf(Array);
      const { next_cursor, total } = data?.pagination as { next_cursor: string | null; total: number };
      // The first field of each is what it is called by.
      return { items: (items as object[]).map((item) => Object.values(item)[0] as unknown), next: next_cursor, total };
    };
    const whole = await page('limit=100');
    expect([whole.items.length, whole.next], path).toEqual([whole.total, null]);
    expect(whole.total, path).toBeGreaterThan(2);
    const walked: unknown[] = [];
    for (let next: string | null = ''; next !== null;) {
      const one = await page(`limit=2${next ? `&cursor=${next}` : ''}`);
      walked.push(...one.items);
      next = one.next;
    }
    expect(walked, path).toEqual(whole.items);
  }
});
