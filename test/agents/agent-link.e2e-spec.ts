import { request } from 'node:http';
import { once } from 'node:events';
import { randomUUID } from 'node:crypto';
import { CLOSE_PROTOCOL_ERROR, CLOSE_REPLACED } from '@nexus/agent/protocol';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { AgentLinks, type AgentLink } from '../../src/agents/index.js';
import { actor } from '../support/actors.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { eventually } from '../support/eventually.js';
import { HELLO, LinkClient, refusedUpgrade } from './link-client.js';

let app: TestApp;
let admin: string;
const clients: LinkClient[] = [];

beforeAll(async () => {
  app = await startTestApp({ NEXUS_HEARTBEAT_SECONDS: '1' });
  admin = (await actor(app)).key;
});
afterAll(() => app.stop());
afterEach(() => {
  for (const client of clients.splice(0)) client.close();
});

async function register(name: string = randomUUID()): Promise<{ id: string; uuid: string; key: string; name: string }> {
  const { body } = await app.call<{ agent_id: string; api_key: string }>('POST', '/api/v1/ai/agents', {
    key: admin,
    body: { agent_name: name, agent_type: 'host', version: '1.0.0' },
  });
  return { id: body.agent_id, uuid: body.agent_id.slice('agent_'.length), key: body.api_key, name };
}

/** What the database has for the agent, public and private. */
async function signingKeys(uuid: string): Promise<{ public_key: string; private_key: string }[]> {
  return app.db.query(`SELECT public_key, private_key FROM agent_signing_keys WHERE agent_id = $1`, [uuid]);
}

async function welcomed(key: string, hello: Partial<typeof HELLO> = {}, url = app.url): Promise<LinkClient> {
  const client = await LinkClient.welcomed(url, key, hello);
  clients.push(client);
  return client;
}

async function shown(id: string, on = app): Promise<Record<string, unknown>> {
  return (await on.call('GET', `/api/v1/ai/agents/${id}`, { key: admin })).body;
}

async function eventsOf(id: string): Promise<string[]> {
  const rows = await app.db.query<{ type: string; status: string | null }>(
    `SELECT type, data->>'status' AS status FROM events WHERE subject = $1 ORDER BY position`,
    [id],
  );
  return rows.map(({ type, status }) => (status ? `${type}=${status}` : type));
}

describe('the upgrade', () => {
  it('is refused without a key, with the ordinary error body', async () => {
    const { status, body } = await refusedUpgrade(app.url);
    expect(status).toBe(401);
    expect(body.error.code).toBe('AUTHENTICATION_FAILED');
  });

  it('is refused with a key that does not exist', async () => {
    const { status } = await refusedUpgrade(app.url, { headers: { authorization: 'Bearer nexus_agent_nope' } });
    expect(status).toBe(401);
  });

  it('is refused to a viewer: the link is for agents', async () => {
    const { key } = await actor(app, { role: 'viewer' });
    const { status } = await refusedUpgrade(app.url, { headers: { authorization: `Bearer ${key}` } });
    expect(status).toBe(403);
  });

  it('is refused to web pages', async () => {
    const { key } = await register();
    const { status } = await refusedUpgrade(app.url, {
      headers: { authorization: `Bearer ${key}`, origin: 'https://example.com' },
    });
    expect(status).toBe(403);
  });

  it('needs the subprotocol', async () => {
    const { key } = await register();
    const { status } = await refusedUpgrade(app.url, {
      protocol: 'something.else',
      headers: { authorization: `Bearer ${key}` },
    });
    expect(status).toBe(400);
  });

  it('is refused to one key that opens socket after socket', async () => {
    const { key } = await register();
    for (let i = 0; i < 4; i++) clients.push(await LinkClient.open(app.url, key));
    const fifth = await refusedUpgrade(app.url, { headers: { authorization: `Bearer ${key}` } });
    expect(fifth.status).toBe(429);
    clients.at(-1)?.close();
    const sixth = await eventually(() => LinkClient.open(app.url, key).catch(() => null));
    clients.push(sixth);
    expect(sixth.closeCode).toBeUndefined();
  });

  it('is refused on paths without a socket', async () => {
    const { key } = await register();
    const { status } = await refusedUpgrade(app.url, {
      path: '/api/v1/elsewhere',
      headers: { authorization: `Bearer ${key}` },
    });
    expect(status).toBe(404);
  });

  it('is refused by a process that only works', async () => {
    const worker = await startTestApp({ NEXUS_ROLE: 'worker', DATABASE_URL: app.db.url });
    const { key } = await register();
    const { status } = await refusedUpgrade(worker.url, { headers: { authorization: `Bearer ${key}` } });
    await worker.stop();
    expect(status).toBe(404);
  });

  it('leaves requests alone that offer another protocol', async () => {
    const { key } = await register();
    const body = JSON.stringify({ agent_name: randomUUID(), agent_type: 'host', version: '1' });
    const sent = request(`${app.url}/api/v1/ai/agents`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${admin}`,
        connection: 'Upgrade, HTTP2-Settings',
        upgrade: 'h2c',
        'http2-settings': 'AAMAAABkAAQAAP__',
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
      },
    });
    sent.end(body);
    const [response] = (await once(sent, 'response')) as [{ statusCode: number; resume(): void }];
    response.resume();
    expect(response.statusCode).toBe(201);
    expect(key).toContain('nexus_agent_');
  });
});

describe('the link', () => {
  it('welcomes an agent and shows it active', async () => {
    const agent = await register();
    const client = await welcomed(agent.key);
    expect(client.frames[0]).toMatchObject({
      type: 'welcome',
      agent_id: agent.id,
      name: agent.name,
      heartbeat_interval_ms: 1000,
      resume: [],
    });
    expect(await shown(agent.id)).toMatchObject({
      status: 'active',
      connected: true,
      hostname: 'web-1.example.com',
      version: '1.2.3',
      labels: { role: 'web' },
      command_types: [{ type: 'system.ping' }],
    });
  });

  it('takes heartbeats and writes load and last seen', async () => {
    const agent = await register();
    const client = await welcomed(agent.key);
    const before = (await shown(agent.id)).last_seen as string;
    client.send({ type: 'heartbeat', load_percent: 42, running: 0, spooled_batches: 0 });
    const after = await eventually(async () => {
      const now = await shown(agent.id);
      return now.load_percent === 42 && now;
    });
    expect(Date.parse(after.last_seen as string)).toBeGreaterThan(Date.parse(before));
  });

  it('shows the agent offline as soon as its socket is gone', async () => {
    const agent = await register();
    const client = await welcomed(agent.key);
    client.close();
    await eventually(async () => (await shown(agent.id)).status === 'offline', 2000);
    expect((await shown(agent.id)).connected).toBe(false);
    expect(await eventsOf(agent.id)).toEqual([
      'ai.agent_registered',
      'ai.agent_status_changed=offline',
      'ai.agent_offline',
    ]);
  });

  it('ends the older link when the agent connects again, and stays active', async () => {
    const agent = await register();
    const older = await welcomed(agent.key);
    await welcomed(agent.key);
    expect(await older.closed()).toBe(CLOSE_REPLACED);
    await app.call('GET', '/api/v1/ai/agents', { key: admin });
    expect(await shown(agent.id)).toMatchObject({ status: 'active', connected: true });
    expect(await eventsOf(agent.id)).toEqual(['ai.agent_registered']);
  });

  it('keeps the labels that were set here over those an agent reports', async () => {
    const agent = await register();
    await app.call('PATCH', `/api/v1/ai/agents/${agent.id}`, { key: admin, body: { labels: { env: 'production' } } });
    await welcomed(agent.key, { labels: { env: 'development', role: 'db' } });
    expect((await shown(agent.id)).labels).toEqual({ env: 'production', role: 'db' });
  });

  it('stays in maintenance through a reconnect', async () => {
    const agent = await register();
    await app.call('PATCH', `/api/v1/ai/agents/${agent.id}`, { key: admin, body: { status: 'maintenance' } });
    const client = await welcomed(agent.key);
    expect(await shown(agent.id)).toMatchObject({ status: 'maintenance', connected: true });
    client.close();
    await eventually(async () => (await shown(agent.id)).connected === false);
    expect((await shown(agent.id)).status).toBe('maintenance');
  });

  it('cuts the link within two seconds of a new key, and of the end of the agent', async () => {
    const agent = await register();
    const first = await welcomed(agent.key);
    const { body } = await app.call<{ api_key: string }>('POST', `/api/v1/ai/agents/${agent.id}/rotate-key`, {
      key: admin,
    });
    expect(await eventually(() => first.closeCode, 2000)).toBe(1008);
    const second = await welcomed(body.api_key);
    await app.call('DELETE', `/api/v1/ai/agents/${agent.id}`, { key: admin });
    expect(await eventually(() => second.closeCode, 2000)).toBe(1008);
    const { status } = await refusedUpgrade(app.url, { headers: { authorization: `Bearer ${body.api_key}` } });
    expect(status).toBe(401);
  });
});

describe('the signing key', () => {
  it('is shown at the registration and in each welcome, and changes with the API key', async () => {
    const name = randomUUID();
    const { body: agent } = await app.call<Record<string, string>>('POST', '/api/v1/ai/agents', {
      key: admin,
      body: { agent_name: name, agent_type: 'host', version: '1.0.0' },
    });
    const shownTo = async (key: string) => (await (await welcomed(key)).received('welcome')).signing_key;
    expect(agent.signing_key).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(await shownTo(agent.api_key)).toBe(agent.signing_key);
    const { body: rotated } = await app.call<Record<string, string>>(
      'POST',
      `/api/v1/ai/agents/${agent.agent_id}/rotate-key`,
      { key: admin },
    );
    expect(rotated.signing_key).not.toBe(agent.signing_key);
    expect(await shownTo(rotated.api_key)).toBe(rotated.signing_key);
  });

  it('has a private half that is stored encrypted and goes with the agent', async () => {
    const agent = await register();
    const [{ private_key: box }] = await signingKeys(agent.uuid);
    expect(box).toMatch(/^v1\.\w+\./);
    await app.call('DELETE', `/api/v1/ai/agents/${agent.id}`, { key: admin });
    expect(await signingKeys(agent.uuid)).toEqual([]);
  });

  it('is made with the next link of an agent that was registered before there were any', async () => {
    const agent = await register();
    await app.db.query(`DELETE FROM agent_signing_keys WHERE agent_id = $1`, [agent.uuid]);
    const welcome = await (await welcomed(agent.key)).received('welcome');
    expect(welcome.signing_key).toBe((await signingKeys(agent.uuid))[0].public_key);
  });
});

describe('bad frames', () => {
  it.each([
    ['no JSON', 'hello?'],
    ['an unknown type', { type: 'greetings' }],
    ['a field of the wrong type', { type: 'heartbeat', load_percent: 'much', running: 0, spooled_batches: 0 }],
    ['a second hello', HELLO],
    ['a dangerous key', '{"type":"telemetry","batch_id":"x","events":[{"__proto__":{}}]}'],
  ])('are answered by an error frame: %s', async (_what, frame) => {
    const agent = await register();
    const client = await welcomed(agent.key);
    client.send(frame);
    expect((await client.received('error')).message).not.toBe('');
    expect(client.closeCode).toBeUndefined();
  });

  it('close the link when there are too many', async () => {
    const agent = await register();
    const client = await welcomed(agent.key);
    for (let i = 0; i < 5; i++) client.send({ type: 'nonsense' });
    expect(await client.closed()).toBe(CLOSE_PROTOCOL_ERROR);
  });

  it('are frames before hello', async () => {
    const agent = await register();
    const client = await LinkClient.open(app.url, agent.key);
    clients.push(client);
    client.send({ type: 'heartbeat', load_percent: 1, running: 0, spooled_batches: 0 });
    expect((await client.received('error')).code).toBe('UNEXPECTED_FRAME');
  });

  it('of more than 256 KiB close the link', async () => {
    const agent = await register();
    const client = await welcomed(agent.key);
    client.send('x'.repeat(256 * 1024 + 1));
    expect(await client.closed()).toBe(1009);
  });
});

describe('a slow reader', () => {
  it('is cut when a mebibyte waits for it', async () => {
    const agent = await register();
    const client = await welcomed(agent.key);
    client.ws.pause();
    const links = app.get(AgentLinks);
    const frame = { type: 'cancel' as const, command_id: randomUUID(), reason: 'x'.repeat(100_000) };
    let sent = 0;
    await eventually(() => {
      sent++;
      return !links.send(agent.uuid, frame);
    });
    await eventually(async () => (await shown(agent.id)).status === 'offline', 5000);
    expect(sent).toBeLessThan(1000);
  });
});

describe('two processes on one database', () => {
  let second: TestApp;
  beforeAll(async () => {
    second = await startTestApp({ NEXUS_HEARTBEAT_SECONDS: '1', DATABASE_URL: app.db.url });
  });
  afterAll(() => second.stop());

  it('wake and relay across', async () => {
    const agent = await register();
    const worked: AgentLink[] = [];
    second.get(AgentLinks).onWork((_agentId, link) => worked.push(link));
    const client = await welcomed(agent.key, {}, second.url);
    await eventually(() => worked.length === 1);
    expect(app.get(AgentLinks).isLocal(agent.uuid)).toBe(false);
    app.get(AgentLinks).wake(agent.uuid);
    await eventually(() => worked.length === 2);
    expect(worked[1]).toMatchObject({ agentId: agent.uuid, name: agent.name });
    app.get(AgentLinks).relay(agent.uuid, { type: 'cancel', command_id: agent.uuid, reason: 'enough' });
    expect(await client.received('cancel')).toMatchObject({ reason: 'enough' });
  });

  it('let the newer link win', async () => {
    const agent = await register();
    const older = await welcomed(agent.key);
    await welcomed(agent.key, {}, second.url);
    expect(await older.closed()).toBe(CLOSE_REPLACED);
    await eventually(() => !app.get(AgentLinks).isLocal(agent.uuid));
    expect(await shown(agent.id)).toMatchObject({ status: 'active', connected: true });
    await welcomed(agent.key);
    await eventually(() => !second.get(AgentLinks).isLocal(agent.uuid));
  });

  it('cut a link that a key of the other revoked', async () => {
    const agent = await register();
    const client = await welcomed(agent.key, {}, second.url);
    await app.call('POST', `/api/v1/ai/agents/${agent.id}/rotate-key`, { key: admin });
    expect(await eventually(() => client.closeCode, 2000)).toBe(1008);
  });

  it('tell their agents when they stop, and leave them offline', async () => {
    const third = await startTestApp({ DATABASE_URL: app.db.url });
    const agent = await register();
    const client = await welcomed(agent.key, {}, third.url);
    await third.stop();
    expect(client.frames.at(-1)).toMatchObject({ type: 'bye' });
    expect(await client.closed()).toBe(1001);
    expect(await shown(agent.id)).toMatchObject({ status: 'offline', connected: false });
  });

  it('send an agent away, to come again, that was taken for dead', async () => {
    const agent = await register();
    const client = await welcomed(agent.key);
    await app.db.query(`UPDATE agents SET link_id = NULL, connected_at = NULL, status = 'offline' WHERE id = $1`, [
      agent.uuid,
    ]);
    client.send({ type: 'heartbeat', load_percent: 1, running: 0, spooled_batches: 0 });
    expect(await client.closed()).toBe(1001);
    await welcomed(agent.key);
    expect(await shown(agent.id)).toMatchObject({ status: 'active', connected: true });
  });

  it('find out about agents whose process was killed', async () => {
    const agent = await register();
    await app.db.query(
      `UPDATE agents SET link_id = gen_random_uuid(), link_node = gen_random_uuid(), connected_at = now(),
         last_seen_at = now() - interval '4 seconds' WHERE id = $1`,
      [agent.uuid],
    );
    await eventually(async () => (await shown(agent.id)).status === 'offline', 20_000);
    expect(await eventsOf(agent.id)).toContain('ai.agent_offline');
  });
});

describe('wrong keys', () => {
  it('are counted: an address that guesses too often is not listened to', async () => {
    const strict = await startTestApp({ NEXUS_RATE_LIMITS: 'on', NEXUS_RATE_LIMIT_REFUSED: '3/60' });
    const headers = { authorization: 'Bearer nexus_agent_guess' };
    const statuses: number[] = [];
    for (let i = 0; i < 5; i++) statuses.push((await refusedUpgrade(strict.url, { headers })).status);
    await strict.stop();
    expect(statuses).toEqual([401, 401, 401, 429, 429]);
  });
});

describe('handlers of frames', () => {
  it('are one per type', () => {
    expect(() => app.get(AgentLinks).handle('heartbeat', () => undefined)).toThrow('two handlers');
  });
});
