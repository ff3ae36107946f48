import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AgentDirectory } from '../../src/agents/index.js';
import { actor } from '../support/actors.js';
import { type Answer, startTestApp, type TestApp } from '../support/app.js';
import { eventually } from '../support/eventually.js';

let app: TestApp;
let admin: string;

beforeAll(async () => {
  app = await startTestApp({
    NEXUS_HEARTBEAT_SECONDS: '1',
    NEXUS_EGRESS_ALLOW: '127.0.0.1',
    NEXUS_AGENT_SELF_REPORTED_LABELS: 'rack',
  });
  admin = (await actor(app)).key;
});
afterAll(() => app.stop());

const NEW = { agent_type: 'ai', version: '1.0.0' };

function register<B = Record<string, string>>(body: object, key = admin): Promise<Answer<B>> {
  return app.call<B>('POST', '/api/v1/ai/agents', { key, body });
}

async function registered(body: object = {}): Promise<{ id: string; key: string }> {
  const answer = await register({ ...NEW, agent_name: randomUUID(), ...body });
  expect(answer.status).toBe(201);
  return { id: answer.body.agent_id, key: answer.body.api_key };
}

async function eventTypes(subject: string): Promise<string[]> {
  const rows = await app.db.query<{ type: string }>(`SELECT type FROM events WHERE subject = $1 ORDER BY position`, [
    subject,
  ]);
  return rows.map((row) => row.type);
}

describe('registering an agent', () => {
  it('answers its id and its key, once', async () => {
    const { status, body } = await register({
      ...NEW,
      agent_name: 'Build agent',
      capabilities: ['code_review'],
      endpoint: 'http://127.0.0.1:9/agent',
      authentication: { type: 'api_key', key_reference: 'BUILD_KEY' },
      labels: { env: 'development' },
    });
    expect(status).toBe(201);
    expect(body).toMatchObject({ agent_name: 'Build agent', status: 'active' });
    expect(body.api_key).toMatch(/^nexus_agent_/);
    const shown = await app.call('GET', `/api/v1/ai/agents/${body.agent_id}`, { key: admin });
    expect(shown.body).toMatchObject({
      agent_type: 'ai',
      capabilities: ['code_review'],
      authentication: { type: 'api_key', key_reference: 'BUILD_KEY' },
      labels: { env: 'development' },
      connected: false,
      last_seen: null,
    });
    expect(shown.text).not.toContain(body.api_key);
    expect(await eventTypes(body.agent_id)).toEqual(['ai.agent_registered']);
  });

  it('refuses a name that is taken, in any case, until its agent is deregistered', async () => {
    const name = `Twin-${randomUUID()}`;
    const { id } = await registered({ agent_name: name });
    expect((await register({ ...NEW, agent_name: name.toUpperCase() })).status).toBe(409);
    await app.call('DELETE', `/api/v1/ai/agents/${id}`, { key: admin });
    expect((await register({ ...NEW, agent_name: name })).status).toBe(201);
  });

  it('may be called agent_001, and is found by that name', async () => {
    const { id } = await registered({ agent_name: 'agent_001' });
    const { status, body } = await app.call('POST', '/api/v1/commands', {
      key: admin,
      body: { command_type: 'system.ping', target: 'agent_001' },
    });
    expect([status, body.agent_id]).toEqual([201, id]);
  });

  it('gives one of many who want the same name at once the name', async () => {
    const body = { ...NEW, agent_name: randomUUID() };
    const answers = await Promise.all(Array.from({ length: 8 }, () => register(body)));
    expect(answers.map((a) => a.status).sort()).toEqual([201, ...Array<number>(7).fill(409)]);
  });

  it.each([
    ['no name', { agent_name: undefined }],
    ['the name of the server', { agent_name: 'nexus' }],
    ['a name that is shaped like an id', { agent_name: 'agent_6F1C1F5E-2a8b-4c55-9d0a-0b8f6a3f9d11' }],
    ['a name that looks like a selector', { agent_name: 'label:env=x' }],
    ['a control character in the name', { agent_name: 'a\u0007b' }],
    ['labels whose names are no words', { labels: { 'a b': 'x' } }],
    ['labels that are no text', { labels: { env: 1 } }],
    ['an endpoint that is no URL', { endpoint: 'ftp://host/x' }],
    ['a secret instead of its name', { authentication: { type: 'api_key', key_reference: 'sk-ant 123' } }],
    ['an unknown field', { password: 'x' }],
  ])('refuses %s', async (_what, fields) => {
    const { status, body } = await register({ ...NEW, agent_name: randomUUID(), ...fields });
    expect(status).toBe(400);
    expect(body).toMatchObject({ error: { code: 'VALIDATION_ERROR' } });
  });

  it('refuses an endpoint inside the network', async () => {
    const { status } = await register({ ...NEW, agent_name: randomUUID(), endpoint: 'http://169.254.169.254/x' });
    expect(status).toBe(400);
  });

  it('needs the scope ai:write', async () => {
    const { key } = await actor(app, { role: 'viewer' });
    expect((await register({ ...NEW, agent_name: randomUUID() }, key)).status).toBe(403);
    expect((await app.call('POST', '/api/v1/ai/agents', { body: {} })).status).toBe(401);
  });
});

describe('listing agents', () => {
  it('filters by status, capability, type and labels, and pages', async () => {
    const mark = randomUUID().slice(0, 8);
    const ids = [
      (await registered({ labels: { mark, env: 'a' }, capabilities: ['x', `cap-${mark}`] })).id,
      (await registered({ labels: { mark, env: 'b' }, agent_type: `type-${mark}` })).id,
      (await registered({ labels: { mark, env: 'b' } })).id,
    ];
    const list = async (query: string): Promise<string[]> => {
      const { body } = await app.call<{ agents: { agent_id: string }[] }>('GET', `/api/v1/ai/agents?${query}`, {
        key: admin,
      });
      return body.agents.map((a) => a.agent_id);
    };
    expect(await list(`label=mark=${mark}`)).toEqual([ids[2], ids[1], ids[0]]);
    expect(await list(`label=mark=${mark},env=b`)).toEqual([ids[2], ids[1]]);
    expect(await list(`capability=cap-${mark}`)).toEqual([ids[0]]);
    expect(await list(`type=type-${mark}`)).toEqual([ids[1]]);
    expect(await list(`label=mark=${mark}&limit=1&offset=1`)).toEqual([ids[1]]);
    await app.call('DELETE', `/api/v1/ai/agents/${ids[1]}`, { key: admin });
    expect(await list(`label=mark=${mark}`)).toEqual([ids[2], ids[0]]);
    expect(await list(`label=mark=${mark}&status=deregistered`)).toEqual([ids[1]]);
  });

  it.each(['status=gone', 'limit=101', 'limit=-1', 'label=env', 'colour=red'])('refuses ?%s', async (query) => {
    expect((await app.call('GET', `/api/v1/ai/agents?${query}`, { key: admin })).status).toBe(400);
  });

  it('shows an agent itself alone', async () => {
    const [own, other] = [await registered(), await registered()];
    expect((await app.call('GET', `/api/v1/ai/agents/${own.id}`, { key: own.key })).status).toBe(200);
    expect((await app.call('GET', `/api/v1/ai/agents/${other.id}`, { key: own.key })).status).toBe(404);
  });

  it.each(['agent_nope', `agent_${randomUUID()}`, 'cmd_x'])('knows no %s', async (id) => {
    expect((await app.call('GET', `/api/v1/ai/agents/${id}`, { key: admin })).status).toBe(404);
  });
});

describe('changing an agent', () => {
  it('takes If-Match: the current version only', async () => {
    const { id } = await registered();
    const path = `/api/v1/ai/agents/${id}`;
    const etag = (await app.call('GET', path, { key: admin })).headers.get('etag') as string;
    const change = (version: string, tag: string) =>
      app.call('PATCH', path, { key: admin, body: { version }, headers: { 'if-match': tag } });
    const first = await change('2', etag);
    expect(first).toMatchObject({ status: 200, body: { version: '2' } });
    expect((await change('3', etag)).status).toBe(412);
    expect((await change('3', '"other"')).status).toBe(412);
    expect((await change('3', first.headers.get('etag') as string)).status).toBe(200);
  });

  it('has an ETag that also tells a new heartbeat', async () => {
    const { id, key } = await registered();
    const path = `/api/v1/ai/agents/${id}`;
    const etag = (await app.call('GET', path, { key: admin })).headers.get('etag') as string;
    const again = () =>
      app.call('GET', path, { key: admin, headers: { 'if-none-match': etag, 'cache-control': 'max-age=0' } });
    expect((await again()).status).toBe(304);
    await app.call('POST', `${path}/heartbeat`, { key, body: {} });
    expect((await again()).status).toBe(200);
  });

  it('sets and ends maintenance, with an event each', async () => {
    const { id } = await registered();
    const set = (status: string) =>
      app.call('PATCH', `/api/v1/ai/agents/${id}`, { key: admin, body: { status, endpoint: null } });
    expect((await set('maintenance')).body.status).toBe('maintenance');
    expect((await set('active')).body.status).toBe('active');
    expect((await set('offline')).status).toBe(400);
    expect((await eventTypes(id)).slice(0, 3)).toEqual([
      'ai.agent_registered',
      'ai.agent_status_changed',
      'ai.agent_status_changed',
    ]);
  });

  it('ends with its deregistration, which may be repeated', async () => {
    const { id, key } = await registered();
    const path = `/api/v1/ai/agents/${id}`;
    const once = await app.call('DELETE', path, { key: admin });
    expect(once).toMatchObject({ status: 200, body: { agent_id: id, status: 'deregistered' } });
    const twice = await app.call('DELETE', path, { key: admin });
    expect(twice.body).toEqual(once.body);
    expect((await app.call('GET', path, { key })).status).toBe(401);
    expect((await app.call('PATCH', path, { key: admin, body: { version: '2' } })).status).toBe(409);
    expect((await app.call('POST', `${path}/rotate-key`, { key: admin })).status).toBe(409);
    expect((await app.call('DELETE', `/api/v1/ai/agents/agent_${randomUUID()}`, { key: admin })).status).toBe(404);
  });

  it('gives it a new key and voids the old one', async () => {
    const { id, key } = await registered();
    const { status, body } = await app.call('POST', `/api/v1/ai/agents/${id}/rotate-key`, { key: admin });
    expect(status).toBe(200);
    const get = async (k: string) => (await app.call('GET', `/api/v1/ai/agents/${id}`, { key: k })).status;
    expect(await get(key)).toBe(401);
    expect(await get(body.api_key as string)).toBe(200);
  });
});

describe('who may change which agent', () => {
  const path = (id: string, more = ''): string => `/api/v1/ai/agents/${id}${more}`;
  const patch = async (id: string, key: string, body: object): Promise<number> =>
    (await app.call('PATCH', path(id), { key, body })).status;
  const labelsOf = async (id: string): Promise<unknown> =>
    (await app.call<{ labels: object }>('GET', path(id), { key: admin })).body.labels;

  it('needs agent:admin for labels, endpoint, key and end of an agent, and ai:write for the rest', async () => {
    const writer = (await actor(app, { scopes: ['ai:write', 'ai:read'] })).key;
    const keeper = (await actor(app, { scopes: ['agent:admin'] })).key;
    const { body } = await register({ ...NEW, agent_name: randomUUID(), endpoint: 'http://127.0.0.1:9/x' }, writer);
    const id = body.agent_id;
    for (const change of [
      { labels: { env: 'development' } },
      { endpoint: 'http://127.0.0.1:9/y' },
      { endpoint: null },
    ]) {
      const refused = await app.call('PATCH', path(id), { key: writer, body: { ...change, version: '9' } });
      expect(refused).toMatchObject({
        status: 403,
        body: { error: { details: { required_scopes: ['agent:admin'] } } },
      });
      expect(await patch(id, keeper, change)).toBe(200);
    }
    expect(await patch(id, writer, { version: '2', status: 'maintenance', capabilities: ['x'] })).toBe(200);
    expect(await patch(id, keeper, { version: '3' })).toBe(403);
    for (const [method, route] of [
      ['POST', path(id, '/rotate-key')],
      ['DELETE', path(id)],
    ]) {
      expect((await app.call(method, route, { key: writer })).status).toBe(403);
      expect((await app.call(method, route, { key: keeper })).status).toBe(200);
    }
  });

  it('keeps whoever is limited by labels to agents with these labels, and the agents where they are', async () => {
    const developer = (await actor(app, { role: 'developer' })).key;
    const limited = (await actor(app, { scopes: ['ai:write@env=development', 'agent:admin'] })).key;
    const inside = (await registered({ labels: { env: 'development' } })).id;
    const outside = (await registered({ labels: { env: 'production' } })).id;
    for (const key of [developer, limited]) {
      expect(await patch(outside, key, { labels: { env: 'development' } })).toBe(403);
      expect(await patch(outside, key, { status: 'maintenance' })).toBe(403);
      expect(await patch(inside, key, { labels: { env: 'production' } })).toBe(403);
      expect(await patch(inside, key, { labels: {} })).toBe(403);
      expect(await patch(inside, key, { labels: { env: 'development', group: 'web' } })).toBe(200);
      expect((await app.call('POST', path(outside, '/rotate-key'), { key })).status).toBe(403);
      expect((await app.call('DELETE', path(outside), { key })).status).toBe(403);
      expect((await app.call('POST', path(inside, '/rotate-key'), { key })).status).toBe(200);
    }
    expect(await labelsOf(outside)).toEqual({ env: 'production' });
    expect((await app.call('DELETE', path(inside), { key: developer })).status).toBe(200);
  });

  it('gives what a limited actor registers its labels', async () => {
    const developer = (await actor(app, { role: 'developer' })).key;
    const made = await register({ ...NEW, agent_name: randomUUID(), labels: { group: 'web' } }, developer);
    expect(made.status).toBe(201);
    expect(await labelsOf(made.body.agent_id)).toEqual({ env: 'development', group: 'web' });
    const other = await register({ ...NEW, agent_name: randomUUID(), labels: { env: 'production' } }, developer);
    expect(other.status).toBe(403);
  });

  it('is not decided by what an agent says of itself', async () => {
    const developer = (await actor(app, { role: 'developer' })).key;
    const { id } = await registered();
    await app.db.query(`UPDATE agents SET reported_labels = '{"env": "development"}' WHERE id = $1`, [id.slice(6)]);
    expect(await labelsOf(id)).toEqual({ env: 'development' });
    expect(await patch(id, developer, { status: 'maintenance' })).toBe(403);
    const command = await app.call('POST', '/api/v1/commands', {
      key: developer,
      body: { command_type: 'system.ping', target: id },
    });
    expect(command.status).toBe(403);
  });
});

describe('heartbeats over HTTP', () => {
  it('keep an agent active; without them it goes offline', async () => {
    const { id, key } = await registered();
    const beat = (body: object) => app.call('POST', `/api/v1/ai/agents/${id}/heartbeat`, { key, body });
    expect(await beat({ load_percent: 12.5, status: 'degraded' })).toMatchObject({
      status: 200,
      body: { next_heartbeat_ms: 1000 },
    });
    const shown = async () => (await app.call('GET', `/api/v1/ai/agents/${id}`, { key: admin })).body;
    expect(await shown()).toMatchObject({ status: 'degraded', load_percent: 12.5 });
    await eventually(async () => (await shown()).status === 'offline', 20_000);
    expect(await eventTypes(id)).toContain('ai.agent_offline');
    await beat({});
    expect(await shown()).toMatchObject({ status: 'active', load_percent: 12.5 });
  });

  it('are for the agent itself', async () => {
    const [own, other] = [await registered(), await registered()];
    const beat = (id: string, key: string, body: object = {}) =>
      app.call('POST', `/api/v1/ai/agents/${id}/heartbeat`, { key, body });
    expect((await beat(other.id, own.key)).status).toBe(403);
    expect((await beat(own.id, admin)).status).toBe(403);
    expect((await beat(own.id, own.key, { load_percent: 101 })).status).toBe(400);
    expect((await beat(own.id, own.key, { status: 'offline' })).status).toBe(400);
  });
});

describe('the directory', () => {
  it('finds agents by id, name, label and group, without the deregistered', async () => {
    const mark = randomUUID().slice(0, 8);
    const web = await registered({ agent_name: `Web ${mark}`, labels: { group: `g-${mark}`, env: mark } });
    const db = await registered({ labels: { group: `g-${mark}` } });
    const gone = await registered({ labels: { group: `g-${mark}` } });
    await app.call('DELETE', `/api/v1/ai/agents/${gone.id}`, { key: admin });
    const find = async (target: string) =>
      (await app.get(AgentDirectory).find(target)).map((a) => `agent_${a.id}`).sort();
    expect(await find(web.id)).toEqual([web.id]);
    expect(await find(`WEB ${mark}`)).toEqual([web.id]);
    expect(await find(`label:env=${mark}`)).toEqual([web.id]);
    expect(await find(`group:g-${mark}`)).toEqual([web.id, db.id].sort());
    expect(await find(`label:group=g-${mark},env=${mark}`)).toEqual([web.id]);
    expect(await find(gone.id)).toEqual([]);
    expect(() => app.get(AgentDirectory).find('label:env')).toThrow('Invalid request');
  });

  it('selects by labels that an agent reports only where a setting lists their names', async () => {
    const mark = randomUUID().slice(0, 8);
    const { id } = await registered({ labels: { group: `g-${mark}` } });
    const reported = { rack: mark, env: mark };
    await app.db.query(`UPDATE agents SET reported_labels = $2 WHERE id = $1`, [id.slice(6), reported]);
    const find = async (target: string) => (await app.get(AgentDirectory).find(target)).map((a) => `agent_${a.id}`);
    expect(await find(`label:rack=${mark}`)).toEqual([id]);
    expect(await find(`label:rack=${mark},group=g-${mark}`)).toEqual([id]);
    expect(await find(`label:env=${mark}`)).toEqual([]);
    expect(await find(`label:rack=${mark},env=${mark}`)).toEqual([]);
  });

  it('takes a value with an equals sign whole, and no label twice', async () => {
    const mark = randomUUID().slice(0, 8);
    await registered({ labels: { path: mark } });
    const exact = await registered({ labels: { path: `${mark}=x` } });
    const find = async (target: string) => (await app.get(AgentDirectory).find(target)).map((a) => `agent_${a.id}`);
    expect(await find(`label:path=${mark}=x`)).toEqual([exact.id]);
    expect(() => app.get(AgentDirectory).find(`label:path=${mark},path=${mark}=x`)).toThrow('Invalid request');
  });
});

describe('counts of agents', () => {
  it('are in the metrics and in the health details', async () => {
    await registered();
    const metrics = await app.call('GET', '/metrics', { key: admin });
    expect(metrics.text).toMatch(/^nexus_agents\{status="active"\} [1-9]/m);
    expect(metrics.text).toContain('nexus_agent_links 0');
    const health = await app.call('GET', '/health/detailed', { key: admin });
    expect(health.text).toMatch(/"agents":\{[^}]*"active":[1-9]/);
  });
});
