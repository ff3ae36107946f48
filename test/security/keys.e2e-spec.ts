import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import { json } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Actor, actorHas } from '../../src/platform/context/index.js';
import { generateKey, PasswordHasher } from '../../src/platform/crypto/index.js';
import { Gatekeeper } from '../../src/platform/http/index.js';
import { Metrics } from '../../src/platform/observability/index.js';
import { Retention } from '../../src/platform/retention/index.js';
import { LastUsed } from '../../src/security/access/last-used.js';
import { AgentCredentials } from '../../src/security/index.js';
import { actor } from '../support/actors.js';
import { type Answer, startTestApp, type TestApp } from '../support/app.js';

const KEYS = '/api/v1/auth/api-keys';
const TOKENS = '/api/v1/security/tokens';
const ME = '/api/v1/auth/me';
const PASSWORD = 'three quiet otters paddle';

interface Failure {
  error: { code: string; type?: string; message: string; details: unknown };
}
interface CreatedKey extends Failure {
  data: { api_key: { id: string; key: string; permissions: string[]; key_preview: string; expires_at: string } };
}
interface CreatedToken extends Failure {
  token_id: string;
  token: string;
  scopes: string[];
  expires_at: string;
}

let app: TestApp;
beforeAll(async () => void (app = await startTestApp()));
afterAll(() => app.stop());

const createKey = (key: string, body: object): Promise<Answer<CreatedKey>> => app.call('POST', KEYS, { key, body });
const createToken = (key: string, body: object): Promise<Answer<CreatedToken>> =>
  app.call('POST', TOKENS, { key, body });
const me = (key: string): Promise<Answer<Failure>> => app.call('GET', ME, { key });
const identify = async (key: string): Promise<Actor> =>
  app.get(Gatekeeper).authenticate({ authorization: `Bearer ${key}` }, '');

describe('a credential', () => {
  it('is taken from either header, and from both when it is the same', async () => {
    const { key } = await actor(app);
    expect((await app.call('GET', ME, { headers: { 'x-api-key': key } })).status).toBe(200);
    expect((await app.call('GET', ME, { headers: { authorization: `Bearer ${key}` } })).status).toBe(200);
    expect((await app.call('GET', ME, { key, headers: { 'x-api-key': key } })).status).toBe(200);
  });

  it('must be the only one', async () => {
    const [a, b] = [await actor(app), await actor(app)];
    const { status, body } = await app.call<Failure>('GET', ME, { key: a.key, headers: { 'x-api-key': b.key } });
    expect([status, body.error.code]).toEqual([400, 'VALIDATION_ERROR']);
  });

  it('is refused when the Authorization header comes twice, on every way in', async () => {
    const [a, b] = [await actor(app), await actor(app)];
    const twice: Record<string, string[]> = { authorization: [`Bearer ${a.key}`, `Bearer ${b.key}`] };
    const upgrade = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13' };
    const ask = async (method: string, path: string, headers: Record<string, string> = {}): Promise<unknown[]> => {
      const request = http.request(app.url + path, { method, headers: { ...twice, ...headers } }).end();
      const [response] = (await once(request, 'response')) as [http.IncomingMessage];
      const { error } = (await json(response)) as Failure;
      return [response.statusCode, error.details];
    };
    const refusal = [
      400,
      [expect.objectContaining({ field: 'Authorization', issue: 'only one credential may be sent' })],
    ];
    expect(await ask('GET', ME)).toEqual(refusal);
    expect(await ask('POST', '/api/v1/telemetry/events')).toEqual(refusal);
    const handshake = { ...upgrade, 'sec-websocket-key': randomBytes(16).toString('base64') };
    expect(await ask('GET', '/api/v1/stream', handshake)).toEqual(refusal);
  });

  it('is refused when missing, malformed, unknown or changed', async () => {
    const { key } = await actor(app);
    const missing = await app.call<Failure>('GET', ME);
    expect(missing.status).toBe(401);
    expect(missing.body.error.code).toBe('AUTHENTICATION_FAILED');
    expect(missing.headers.get('www-authenticate')).toContain('Bearer');
    const swapped = generateKey('api').key;
    // The id of a real key with the secret of another one: the checksum no longer fits, so nothing is looked up.
    const spliced = key.slice(0, 18) + swapped.slice(18);
    for (const text of [
      swapped,
      spliced,
      key.slice(0, -1),
      `${key}x`,
      'nexus_api_x',
      'nexus_refresh_x',
      'a.b.c',
      'x',
    ]) {
      const { status, body } = await me(text);
      expect([text, status, body.error.type]).toEqual([text, 401, 'TOKEN_INVALID']);
    }
    expect(await app.get(Metrics).registry.metrics()).toMatch(/nexus_auth_failures_total\{reason="TOKEN_INVALID"\} \d/);
  });

  it('with the id of another key and a good checksum is compared by its whole text', async () => {
    const { keyId } = await actor(app);
    const stranger = generateKey('api');
    await app.db.query(`UPDATE credentials SET key_id = $1 WHERE id = $2`, [stranger.keyId, keyId]);
    expect((await me(stranger.key)).status).toBe(401);
  });

  it('says when it has expired', async () => {
    const { key, keyId } = await actor(app);
    expect((await me(key)).status).toBe(200);
    await app.db.query(`UPDATE credentials SET expires_at = now() - interval '1 second' WHERE id = $1`, [keyId]);
    const other = await actor(app, { expiresInDays: -1 });
    const { status, body } = await me(other.key);
    expect([status, body.error.type]).toEqual([401, 'TOKEN_EXPIRED']);
  });

  it('of a suspended or deleted user is refused', async () => {
    for (const state of ['suspended', 'deleted']) {
      const { key, userId } = await actor(app);
      await app.db.query(`UPDATE users SET status = $2 WHERE id = $1`, [userId, state]);
      const { status, body } = await me(key);
      expect([state, status, body.error.type]).toEqual([state, 401, 'TOKEN_INVALID']);
    }
  });

  it('has its time of last use written, off the request', async () => {
    const { key, keyId } = await actor(app);
    await me(key);
    await app.get(LastUsed).flush();
    const [row] = await app.db.query<{ recent: boolean }>(
      `SELECT last_used_at > now() - interval '10 seconds' AS recent FROM credentials WHERE id = $1`,
      [keyId],
    );
    expect(row.recent).toBe(true);
  });
});

describe('live keys and tokens', () => {
  it('of one user are two hundred at most; those that have ended do not count', async () => {
    const [owner, other] = [await actor(app), await actor(app)];
    await app.db.query(
      `INSERT INTO credentials (id, kind, key_id, hash, preview, name, owner_user_id, scopes, expires_at)
       SELECT gen_random_uuid(), kind, key_id || i, hash, preview, 'filler', owner_user_id, scopes, expires_at
       FROM credentials, generate_series(1, 198) AS i WHERE id = $1`,
      [owner.keyId],
    );
    const body = { name: 'one more', scopes: ['telemetry:read'] };
    expect((await createToken(owner.key, body)).status).toBe(201);
    const keyBody = { name: 'one more', permissions: ['telemetry:read'] };
    expect(await createKey(owner.key, keyBody)).toMatchObject({
      status: 409,
      body: { error: { details: { limit: 200 } } },
    });
    expect((await createToken(owner.key, body)).status).toBe(409);
    expect((await createToken(other.key, body)).status).toBe(201);
    await app.db.query(`UPDATE credentials SET revoked_at = now() WHERE owner_user_id = $1 AND name = 'filler'`, [
      owner.userId,
    ]);
    expect((await createToken(owner.key, body)).status).toBe(201);
  });
});

describe('rights', () => {
  it('are what role and key both allow', async () => {
    const { key } = await actor(app, { role: 'viewer', scopes: ['*:read', 'command:write', 'telemetry:write'] });
    const found = await identify(key);
    expect(actorHas(found, 'telemetry:read')).toBe(true);
    for (const scope of ['user:read', 'config:read', 'security:read', 'command:write', 'telemetry:write']) {
      expect([scope, actorHas(found, scope)]).toEqual([scope, false]);
    }
  });

  it('follow the role of the owner, not the day the key was made', async () => {
    const { key, userId } = await actor(app, { role: 'admin' });
    expect(actorHas(await identify(key), 'security:admin')).toBe(true);
    await app.db.query(`UPDATE users SET roles = '{viewer}' WHERE id = $1`, [userId]);
    await expect.poll(async () => actorHas(await identify(key), 'security:admin'), { timeout: 3000 }).toBe(false);
  });

  it('of a developer reach targets of development only', async () => {
    const { key } = await actor(app, { role: 'developer' });
    const found = await identify(key);
    expect(actorHas(found, 'command:write')).toBe(true);
    expect(found.targetLabels).toEqual({ env: 'development' });
    const operator = await identify((await actor(app, { role: 'operator' })).key);
    expect(operator.targetLabels).toBeUndefined();
  });
});

describe('API keys', () => {
  it('are made, listed without their secret, and work', async () => {
    const owner = await actor(app, { role: 'operator' });
    const made = await createKey(owner.key, {
      name: 'CI',
      description: 'builds',
      permissions: ['read:plugins', 'telemetry:write', 'telemetry:write'],
    });
    expect(made.status).toBe(201);
    const { id, key, permissions, expires_at } = made.body.data.api_key;
    expect(key).toMatch(/^nexus_api_/);
    expect(permissions).toEqual(['plugin:read', 'telemetry:write']);
    expect((Date.parse(expires_at) - Date.now()) / 86_400_000).toBeCloseTo(90, 0);
    expect((await me(key)).status).toBe(200);
    expect((await app.call('GET', '/api/v1/security/roles', { key })).status).toBe(403);
    const list = await app.call<{ data: { api_keys: { id: string; is_active: boolean }[] } }>('GET', KEYS, {
      key: owner.key,
    });
    expect(list.body.data.api_keys).toHaveLength(2);
    expect(list.body.data.api_keys[0]).toMatchObject({
      id,
      name: 'CI',
      description: 'builds',
      key_preview: key.slice(0, 19) + '...',
      permissions: ['plugin:read', 'telemetry:write'],
      is_active: true,
    });
    expect(list.text).not.toContain(key);
    const stored = await app.db.query(`SELECT * FROM credentials WHERE id = $1`, [id.slice(4)]);
    expect(JSON.stringify(stored)).not.toContain(key.slice(20));
  });

  it('never do more than their maker', async () => {
    const viewer = await actor(app, { role: 'viewer' });
    for (const scope of ['*', 'telemetry:*', '*:read', 'telemetry:write', 'admin:*', 'security:admin']) {
      const { status, body } = await createKey(viewer.key, { name: 'x', permissions: ['telemetry:read', scope] });
      expect([scope, status, body.error.code]).toEqual([scope, 403, 'AUTHORIZATION_FAILED']);
    }
    const small = await actor(app, { role: 'admin', scopes: ['telemetry:read'] });
    expect((await createKey(small.key, { name: 'x', permissions: ['telemetry:read'] })).status).toBe(201);
    expect((await createKey(small.key, { name: 'x', permissions: ['telemetry:write'] })).status).toBe(403);
  });

  it('never outlive the key that made them', async () => {
    const short = await actor(app, { expiresInDays: 2 });
    const make = (path: string, field: string, days?: number) =>
      app.call<{ data?: { api_key: { expires_at: string } }; expires_at: string }>('POST', path, {
        key: short.key,
        body: { name: 'child', [field]: ['system:read'], ...(days ? { expires_in_days: days } : {}) },
      });
    const inTwoDays = Date.now() + 2 * 86_400_000;
    for (const [path, field] of [
      [KEYS, 'permissions'],
      [TOKENS, 'scopes'],
    ]) {
      expect((await make(path, field, 3)).status).toBe(403);
      for (const days of [undefined, 1]) {
        const { status, body } = await make(path, field, days);
        expect(status).toBe(201);
        expect(Date.parse(body.data?.api_key.expires_at ?? body.expires_at)).toBeLessThanOrEqual(inTwoDays);
      }
    }
  });

  it('end with the key that made them, and all that was made with them', async () => {
    const owner = await actor(app);
    const child = (await createKey(owner.key, { name: 'child', permissions: ['*'] })).body.data.api_key;
    const grandchild = (await createToken(child.key, { name: 'grandchild', scopes: ['telemetry:read'] })).body;
    const admin = await actor(app);
    const shown = await app.call('GET', `${TOKENS}/${grandchild.token_id}`, { key: admin.key });
    expect(shown.body).toMatchObject({ parent_id: child.id });
    const heard: unknown[] = [];
    const stop = app.get(Gatekeeper).onRevoked((revoked) => void heard.push(revoked));
    expect((await app.call('DELETE', `${KEYS}/key_${owner.keyId}`, { key: admin.key })).status).toBe(200);
    stop();
    for (const key of [owner.key, child.key, grandchild.token]) expect((await me(key)).status).toBe(401);
    const ended = [`key_${owner.keyId}`, child.id, grandchild.token_id];
    expect(heard).toEqual(ended.map((credentialId) => ({ credentialId })));
    const events = await app.db.query<{ subject: string }>(
      `SELECT subject FROM events WHERE type = 'token.revoked' AND subject = ANY ($1)`,
      [ended],
    );
    expect(events.map(({ subject }) => subject).sort()).toEqual(ended.sort());
  });

  it('cannot be made with a key while that is revoked', async () => {
    const owner = await actor(app);
    const admin = await actor(app);
    const making = Array.from({ length: 8 }, () =>
      createKey(owner.key, { name: 'late', permissions: ['system:read'] }),
    );
    const revoked = app.call('DELETE', `${KEYS}/key_${owner.keyId}`, { key: admin.key });
    const made = await Promise.all(making);
    expect((await revoked).status).toBe(200);
    for (const { status, body } of made) {
      if (status !== 201) expect(status).toBe(401);
      else expect((await me(body.data.api_key.key)).status).toBe(401);
    }
  });

  it('are kept when a login asks for it, not when a key does', async () => {
    const owner = await actor(app);
    const child = (await createKey(owner.key, { name: 'child', permissions: ['*'] })).body.data.api_key;
    const path = `${KEYS}/key_${owner.keyId}`;
    for (const key of [owner.key, child.key]) {
      expect((await app.call('DELETE', `${path}?keep_children=true`, { key })).status).toBe(403);
    }
    expect((await app.call('DELETE', `${path}?keep_children=perhaps`, { key: owner.key })).status).toBe(400);
    await app.db.query(`UPDATE users SET password_hash = $2 WHERE id = $1`, [
      owner.userId,
      await app.get(PasswordHasher).hash(PASSWORD),
    ]);
    const login = await app.call<{ data: { tokens: { access_token: string } } }>('POST', '/api/v1/auth/login', {
      body: { username: owner.username, password: PASSWORD },
    });
    const { access_token } = login.body.data.tokens;
    expect((await app.call('DELETE', `${path}?keep_children=true`, { key: access_token })).status).toBe(200);
    expect((await me(owner.key)).status).toBe(401);
    expect((await me(child.key)).status).toBe(200);
    const { body } = await app.call<{ data: { api_keys: object[] } }>('GET', KEYS, { key: child.key });
    expect(body.data.api_keys[0]).toMatchObject({ id: child.id, parent_id: null, is_active: true });
  });

  it('of a developer carry the limit of the developer', async () => {
    const developer = await actor(app, { role: 'developer' });
    const { body } = await createKey(developer.key, { name: 'x', permissions: ['write:commands'] });
    expect(body.data.api_key.permissions).toEqual(['command:write@env=development']);
    expect((await identify(body.data.api_key.key)).targetLabels).toEqual({ env: 'development' });
  });

  it('are refused with unknown scopes and fields out of bounds', async () => {
    const { key } = await actor(app);
    for (const body of [
      { name: 'x' },
      { name: 'x', permissions: [] },
      { name: 'x', permissions: ['fly:high'] },
      { name: 'x', permissions: ['task:write@env=x'] },
      { name: '', permissions: ['telemetry:read'] },
      { name: 'x', permissions: ['telemetry:read'], expires_in_days: 0 },
      { name: 'x', permissions: ['telemetry:read'], expires_in_days: 1.5 },
      { name: 'x', permissions: ['telemetry:read'], expires_in_days: 1e9 },
      { name: 'x', permissions: ['telemetry:read'], owner: 'me' },
    ]) {
      expect([body, (await createKey(key, body)).status]).toEqual([body, 400]);
    }
  });

  it('are revoked by their owner or an admin, at once and again and again', async () => {
    const owner = await actor(app, { role: 'viewer' });
    const stranger = await actor(app, { role: 'operator' });
    const admin = await actor(app);
    const made = async (): Promise<CreatedKey['data']['api_key']> =>
      (await createKey(owner.key, { name: 'x', permissions: ['telemetry:read'] })).body.data.api_key;
    for (const by of [owner, admin]) {
      const { id, key } = await made();
      expect((await me(key)).status).toBe(200);
      expect((await app.call('DELETE', `${KEYS}/${id}`, { key: stranger.key })).status).toBe(404);
      const first = await app.call('DELETE', `${KEYS}/${id}`, { key: by.key });
      expect((await me(key)).status).toBe(401);
      const second = await app.call('DELETE', `${KEYS}/${id}`, { key: by.key });
      expect([first.status, first.body.data]).toEqual([second.status, second.body.data]);
      expect(first.status).toBe(200);
    }
    expect((await app.call('DELETE', `${KEYS}/key_${randomUUID()}`, { key: admin.key })).status).toBe(404);
    expect((await app.call('DELETE', `${KEYS}/1`, { key: admin.key })).status).toBe(404);
  });

  it('with few rights cannot revoke those with more', async () => {
    const owner = await actor(app, { role: 'operator' });
    const small = await createKey(owner.key, { name: 'small', permissions: ['telemetry:read'] });
    const big = await createKey(owner.key, { name: 'big', permissions: ['command:write'] });
    const target = `${KEYS}/${big.body.data.api_key.id}`;
    expect((await app.call('DELETE', target, { key: small.body.data.api_key.key })).status).toBe(403);
    expect((await app.call('DELETE', target, { key: owner.key })).status).toBe(200);
  });

  it('that ended long ago are deleted', async () => {
    const [old, recent] = [await actor(app), await actor(app)];
    await app.db.query(`UPDATE credentials SET revoked_at = now() - interval '31 days' WHERE id = $1`, [old.keyId]);
    await app.db.query(`UPDATE credentials SET revoked_at = now() - interval '29 days' WHERE id = $1`, [recent.keyId]);
    await app.get(Retention).run();
    const left = await app.db.query<{ id: string }>(`SELECT id FROM credentials WHERE id = ANY ($1)`, [
      [old.keyId, recent.keyId],
    ]);
    expect(left.map(({ id }) => id)).toEqual([recent.keyId]);
  });
});

describe('access tokens', () => {
  it('are made, shown, listed and revoked', async () => {
    const owner = await actor(app, { role: 'developer' });
    const made = await createToken(owner.key, { name: 'bot', scopes: ['telemetry:read'], expires_in_days: 30 });
    expect(made.status).toBe(201);
    const { token_id, token, scopes, expires_at } = made.body;
    expect(token).toMatch(/^nexus_tok_/);
    expect(scopes).toEqual(['telemetry:read']);
    expect((Date.parse(expires_at) - Date.now()) / 86_400_000).toBeCloseTo(30, 0);
    expect((await me(token)).status).toBe(200);
    const shown = await app.call('GET', `${TOKENS}/${token_id}`, { key: owner.key });
    expect(shown.body).toMatchObject({ token_id, name: 'bot', status: 'active', owner_id: `user_${owner.userId}` });
    expect(shown.text).not.toContain(token);
    const list = await app.call<{ tokens: object[] }>('GET', TOKENS, { key: owner.key });
    expect(list.body.tokens).toHaveLength(1);
    const revoked = await app.call('DELETE', `${TOKENS}/${token_id}`, { key: owner.key });
    expect(revoked.status).toBe(200);
    expect(revoked.body).toEqual({ token_id, status: 'revoked', revoked_at: expect.stringMatching(/Z$/) as string });
    expect((await me(token)).status).toBe(401);
    const again = await app.call('DELETE', `${TOKENS}/${token_id}`, { key: owner.key });
    expect(again.body).toEqual(revoked.body);
    expect((await app.call('GET', `${TOKENS}/${token_id}`, { key: owner.key })).body).toMatchObject({
      status: 'revoked',
    });
    const events = await app.db.query<{ type: string }>(
      `SELECT type FROM events WHERE subject = $1 ORDER BY position`,
      [token_id],
    );
    expect(events.map(({ type }) => type)).toEqual(['token.created', 'token.revoked']);
  });

  it('always end, also when null is asked for', async () => {
    const { key } = await actor(app);
    const days = (at: string): number => (Date.parse(at) - Date.now()) / 86_400_000;
    const token = await createToken(key, { name: 'x', scopes: ['telemetry:read'], expires_in_days: null });
    expect(days(token.body.expires_at)).toBeCloseTo(90, 0);
    const apiKey = await createKey(key, { name: 'x', permissions: ['telemetry:read'], expires_in_days: null });
    expect(days(apiKey.body.data.api_key.expires_at)).toBeCloseTo(90, 0);
  });

  it('of others exist for security admins only', async () => {
    const owner = await actor(app, { role: 'viewer' });
    const { token_id } = (await createToken(owner.key, { name: 'x', scopes: ['telemetry:read'] })).body;
    const stranger = await actor(app, { role: 'operator' });
    expect((await app.call('GET', `${TOKENS}/${token_id}`, { key: stranger.key })).status).toBe(404);
    expect((await app.call('DELETE', `${TOKENS}/${token_id}`, { key: stranger.key })).status).toBe(404);
    const admin = await actor(app);
    expect((await app.call('GET', `${TOKENS}/${token_id}`, { key: admin.key })).status).toBe(200);
    expect((await app.call('DELETE', `${TOKENS}/${token_id}`, { key: admin.key })).status).toBe(200);
  });

  it('never do more than their maker, and are paged', async () => {
    const viewer = await actor(app, { role: 'viewer' });
    expect((await createToken(viewer.key, { name: 'x', scopes: ['telemetry:write'] })).status).toBe(403);
    for (let i = 0; i < 3; i++) await createToken(viewer.key, { name: `t${i}`, scopes: ['telemetry:read'] });
    const page = await app.call('GET', `${TOKENS}?page=2&per_page=2`, { key: viewer.key });
    expect(page.body).toMatchObject({ tokens: [{ name: 't0' }], pagination: { total: 3, pages: 2, has_more: false } });
    expect((await app.call('GET', `${TOKENS}?limit=-1`, { key: viewer.key })).status).toBe(400);
  });
});

describe('keys of agents', () => {
  const agentId = randomUUID();
  const agents = (): AgentCredentials => app.get(AgentCredentials);
  const issue = async (): Promise<string> =>
    (await app.db.transaction((tx) => agents().issue(tx, { agentId, name: 'web-1' }))).key;

  it('act as the agent, with the rights of its role', async () => {
    const found = await identify(await issue());
    expect(found).toMatchObject({ id: `agent_${agentId}`, type: 'agent', agentId, name: 'web-1', roles: ['agent'] });
    expect(actorHas(found, 'ai:agent')).toBe(true);
    expect(actorHas(found, 'command:write')).toBe(false);
    expect(found.userId).toBeUndefined();
  });

  it('are no users: no keys, no tokens, no sessions, no password', async () => {
    const key = await issue();
    expect((await me(key)).body).toMatchObject({ data: { user: { id: `agent_${agentId}`, type: 'agent' } } });
    expect((await createKey(key, { name: 'x', permissions: ['telemetry:write'] })).status).toBe(403);
    expect((await createToken(key, { name: 'x', scopes: ['telemetry:write'] })).status).toBe(403);
    expect((await app.call('GET', '/api/v1/auth/sessions', { key })).status).toBe(403);
    const body = { current_password: 'x', new_password: 'y', confirm_password: 'y' };
    expect((await app.call('PUT', '/api/v1/auth/password', { key, body })).status).toBe(403);
  });

  it('are rotated and revoked; sockets hear of it', async () => {
    const old = await issue();
    const { credentialId } = await identify(old);
    const heard: unknown[] = [];
    const stop = app.get(Gatekeeper).onRevoked((revoked) => void heard.push(revoked));
    const { key } = await app.db.transaction((tx) => agents().rotate(tx, agentId));
    expect(heard).toContainEqual({ credentialId });
    expect((await me(old)).status).toBe(401);
    expect((await me(key)).status).toBe(200);
    const [hash, ...none] = await agents().keyHashes(agentId);
    expect(none).toEqual([]);
    expect(hash).toHaveLength(32);
    await app.db.transaction((tx) => agents().revokeAll(tx, agentId));
    expect((await me(key)).status).toBe(401);
    expect(await agents().keyHashes(agentId)).toEqual([]);
    stop();
  });

  it('are not ended by a transaction that fails', async () => {
    const key = await issue();
    const failing = app.db.transaction(async (tx) => {
      await agents().revokeAll(tx, agentId);
      throw new Error('something else went wrong');
    });
    await expect(failing).rejects.toThrow('something else');
    expect((await me(key)).status).toBe(200);
  });
});
