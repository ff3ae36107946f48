import { afterAll, beforeAll, expect, it } from 'vitest';
import { AuditTrail } from '../../src/security/audit-trail.js';
import { actor, type TestActor } from '../support/actors.js';
import { eventually, startTestApp, type TestApp } from '../support/app.js';

interface AuditList {
  entries: {
    timestamp: string;
    user_id: string;
    credential_id: string | null;
    action: string;
    resource_id: string | null;
    status_code: number;
    count: number;
    ip_address: string | null;
    user_agent: string | null;
    request_id: string;
  }[];
  pagination: { total: number; has_more: boolean; next_cursor: string | null };
}

let app: TestApp;
let admin: TestActor;

beforeAll(async () => {
  app = await startTestApp({ NEXUS_EGRESS_ALLOW: '127.0.0.0/8' });
  admin = await actor(app);
});
afterAll(() => app.stop());

const audit = async (query: string): Promise<AuditList> =>
  (await app.call<AuditList>('GET', `/api/v1/security/audit?${query}`, { key: admin.key })).body;

const newAgent = (name: string): object => ({
  agent_name: name,
  agent_type: 'service',
  capabilities: ['test'],
  version: '1.0.0',
});

it('holds a mutation with who, what, whence and the resource it made', async () => {
  const made = await app.call<{ agent_id: string }>('POST', '/api/v1/ai/agents', {
    key: admin.key,
    body: newAgent('audited'),
    headers: { 'user-agent': 'NexusClient/1.0', 'x-request-id': 'audit-1', 'x-user-id': 'alice' },
  });
  expect(made.status).toBe(201);
  const { entries } = await audit(`resource_id=${made.body.agent_id}`);
  expect(entries).toEqual([
    expect.objectContaining({
      user_id: `user_${admin.userId}`,
      credential_id: `key_${admin.keyId}`,
      action: 'POST /api/v1/ai/agents',
      status_code: 201,
      user_agent: 'NexusClient/1.0',
      request_id: 'audit-1',
      claimed_user_id: 'alice',
      count: 1,
    }),
  ]);
});

it('names what each creation has made', async () => {
  const url = 'http://127.0.0.1:9/hook';
  const ends_at = new Date(Date.now() + 3_600_000).toISOString();
  const creations: [path: string, idPrefix: string, body: object][] = [
    ['/ai/agents', 'agent_', newAgent('walked')],
    ['/ai/agents/join-tokens', 'join_', {}],
    ['/auth/api-keys', 'key_', { name: 'walked', permissions: ['telemetry:read'] }],
    ['/security/tokens', 'token_', { name: 'walked', scopes: ['telemetry:read'] }],
    ['/security/roles', 'role_', { name: 'walked', scopes: ['telemetry:read'] }],
    ['/commands/types', 'walked.type', { type: 'walked.type' }],
    ['/commands', 'cmd_', { command_type: 'walked.type', target: 'walked' }],
    ['/events', 'evt_', { event_type: 'walked.event', data: {} }],
    ['/events/subscriptions', 'sub_', { name: 'walked', event_patterns: ['walked.*'], delivery_method: 'stream' }],
    [
      '/events/subscriptions',
      'sub_',
      { name: 'walked too', event_patterns: ['walked.*'], delivery_method: 'webhook', webhook_config: { url } },
    ],
    ['/hooks', 'hook_', { name: 'walked' }],
    ['/webhooks', 'webhook_', { url, events: ['agent.registered'] }],
    [
      '/telemetry/rules',
      'rule_',
      {
        name: 'walked',
        metric_name: 'cpu_usage',
        operator: 'gt',
        threshold: 90,
      },
    ],
    ['/telemetry/silences', 'silence_', { matchers: { severities: ['info'] }, ends_at }],
  ];
  for (const [n, [path, idPrefix, body]] of creations.entries()) {
    const requestId = `walk-${n}`;
    const made = await app.call('POST', `/api/v1${path}`, {
      key: admin.key,
      body,
      headers: { 'x-request-id': requestId },
    });
    expect([path, made.status, made.status === 201 ? '' : made.text]).toEqual([path, 201, '']);
    const [entry] = await app.db.query<{ resource_id: string | null }>(
      'SELECT resource_id FROM audit_entries WHERE request_id = $1',
      [requestId],
    );
    expect([path, entry.resource_id?.startsWith(idPrefix)]).toEqual([path, true]);
    if (!idPrefix.startsWith('role')) expect(made.text).toContain(`"${entry.resource_id}"`);
  }
});

it('has the entry in the transaction of the effect: neither is there without the other', async () => {
  await app.db.query(
    `ALTER TABLE audit_entries ADD CONSTRAINT refuse CHECK (action <> 'POST /api/v1/ai/agents') NOT VALID`,
  );
  const refused = await app.call('POST', '/api/v1/ai/agents', { key: admin.key, body: newAgent('unaudited') });
  await app.db.query(`ALTER TABLE audit_entries DROP CONSTRAINT refuse`);
  expect(refused.status).toBe(500);
  const agents = await app.db.query(`SELECT 1 FROM agents WHERE name = 'unaudited'`);
  expect(agents).toEqual([]);
});

it('holds reads and refusals too', async () => {
  const viewer = await actor(app, { role: 'viewer' });
  await app.call('GET', '/api/v1/ai/agents', { key: viewer.key });
  await app.call('POST', '/api/v1/ai/agents', { key: viewer.key, body: newAgent('forbidden') });
  const seen = await eventually(async () => {
    const { entries } = await audit(`user_id=user_${viewer.userId}`);
    return entries.length >= 2 && entries;
  });
  expect(seen.map((e) => `${e.action} ${e.status_code}`).sort()).toEqual([
    'GET /api/v1/ai/agents 200',
    'POST /api/v1/ai/agents 403',
  ]);
});

it('counts what strangers ask for by the minute, network and route', async () => {
  const trail = app.get(AuditTrail);
  for (let n = 0; n < 3; n++) {
    const headers = { 'user-agent': `Stranger/${n}` };
    await app.call('GET', '/api/v1/ai/agents', { key: `nexus_api_nobody${n}`, headers });
    await app.call('GET', `/api/v1/nothing/${n}`, { headers });
  }
  await eventually(async () => {
    await trail.flush();
    const [row] = await app.db.query<{ total: number | null }>(
      `SELECT sum(count)::int AS total FROM audit_minutes WHERE actor_id = 'anonymous' AND network = '127.0.0.0/24'`,
    );
    return row.total === 6;
  });
  await app.db.query(`UPDATE audit_minutes SET minute = minute - interval '10 minutes'`);
  await trail.sealMinutes();
  for (const [status, action] of [
    [401, 'GET /api/v1/ai/agents'],
    [404, 'GET unmatched'],
  ]) {
    const { entries } = await audit(`user_id=anonymous&status_code=${status}`);
    expect(new Set(entries.map((e) => `${e.action} ${e.ip_address}`))).toEqual(new Set([`${action} 127.0.0.0/24`]));
    expect(entries.reduce((sum, e) => sum + e.count, 0)).toBe(3);
  }
  const written = await app.db.query(
    `SELECT 1 FROM audit_entries WHERE actor_id = 'anonymous' AND status_code IN (401, 404) AND request_id IS NOT NULL`,
  );
  expect(written).toEqual([]);
});

it('pages by cursor through every entry once, and filters by time and action', async () => {
  for (let i = 0; i < 5; i++) {
    await app.call('POST', '/api/v1/ai/agents', { key: admin.key, body: newAgent(`page-${i}`) });
  }
  const found: string[] = [];
  let cursor: string | null = null;
  do {
    const list: AuditList = await audit(
      `action=POST%20/api/v1/ai/agents&status_code=201&limit=2${cursor ? `&cursor=${cursor}` : ''}`,
    );
    found.push(...list.entries.map((e) => e.request_id));
    cursor = list.pagination.next_cursor;
  } while (cursor);
  expect(found.length).toBeGreaterThanOrEqual(6);
  expect(new Set(found).size).toBe(found.length);
  expect((await audit('from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z')).entries).toEqual([]);
  const wrong = await app.call('GET', '/api/v1/security/audit?from=2021-01-01T00:00:00Z&to=2020-01-01T00:00:00Z', {
    key: admin.key,
  });
  expect(wrong.status).toBe(400);
});

it('pages through the months of its table as one list', async () => {
  await app.db.query(
    `INSERT INTO audit_entries (at, actor_id, action, status_code, request_id)
     SELECT now() + n * interval '10 days', 'user_months', 'GET /', 404, 'm' || n FROM generate_series(0, 5) n`,
  );
  const walk = async (more: string): Promise<string[]> => {
    const found: string[] = [];
    let cursor: string | null = null;
    do {
      const list: AuditList = await audit(`user_id=user_months&limit=2${more}${cursor ? `&cursor=${cursor}` : ''}`);
      found.push(...list.entries.map((e) => e.request_id));
      cursor = list.pagination.next_cursor;
    } while (cursor);
    return found;
  };
  const tables = await app.db.query(`SELECT DISTINCT tableoid FROM audit_entries WHERE actor_id = 'user_months'`);
  expect(tables.length).toBeGreaterThan(1);
  expect(await walk('')).toEqual(['m5', 'm4', 'm3', 'm2', 'm1', 'm0']);
  expect(await walk('&status_code=404')).toHaveLength(6);
  const [from, to] = [15, 35].map((days) => new Date(Date.now() + days * 86_400_000).toISOString());
  expect(await walk(`&from=${from}&to=${to}`)).toEqual(['m3', 'm2']);
});

it('is for security administrators only and cannot be changed', async () => {
  const operator = await actor(app, { role: 'operator' });
  expect((await app.call('GET', '/api/v1/security/audit', { key: operator.key })).status).toBe(403);
  await expect(app.db.query(`UPDATE audit_entries SET actor_id = 'nobody'`)).rejects.toThrow('append-only');
  await expect(app.db.query(`DELETE FROM audit_entries`)).rejects.toThrow('append-only');
});

it('counts requests of high-rate routes by principal, route, status and minute, and seals minutes that are over', async () => {
  const trail = app.get(AuditTrail);
  const agent = await app.call<{ api_key: string; agent_id: string }>('POST', '/api/v1/ai/agents', {
    key: admin.key,
    body: newAgent('beating'),
  });
  for (let i = 0; i < 3; i++) {
    const beat = await app.call('POST', `/api/v1/ai/agents/${agent.body.agent_id}/heartbeat`, {
      key: agent.body.api_key,
      body: {},
    });
    expect(beat.status).toBe(200);
  }
  await eventually(async () => {
    await trail.flush();
    const [row] = await app.db.query<{ total: number }>(
      `SELECT sum(count)::int AS total FROM audit_minutes WHERE actor_id = $1`,
      [agent.body.agent_id],
    );
    return row.total === 3;
  });
  expect((await audit(`user_id=${agent.body.agent_id}`)).entries).toEqual([]);
  await app.db.query(`UPDATE audit_minutes SET minute = minute - interval '10 minutes'`);
  await Promise.all([trail.sealMinutes(), trail.sealMinutes()]);
  const { entries } = await audit(`user_id=${agent.body.agent_id}`);
  expect(entries.reduce((sum, e) => sum + e.count, 0)).toBe(3);
  expect(entries[0].action).toBe('POST /api/v1/ai/agents/:id/heartbeat');
});
