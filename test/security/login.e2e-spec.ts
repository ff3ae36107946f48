import { createHmac } from 'node:crypto';
import { decodeJwt, decodeProtectedHeader, SignJWT } from 'jose';
import { Agent, fetch as undiciFetch } from 'undici';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { PasswordHasher } from '../../src/platform/crypto/index.js';
import { Users } from '../../src/security/accounts/users.js';
import { Metrics } from '../../src/platform/observability/index.js';
import { Retention } from '../../src/platform/retention/index.js';
import { actor } from '../support/actors.js';
import { type Answer, eventually, startTestApp, type TestApp } from '../support/app.js';

const SECRET = 'a-secret-of-this-test-with-enough-bytes';
const PASSWORD = 'three quiet otters paddle';
const AUTH = '/api/v1/auth';

interface Failure {
  success: false;
  error: { code: string; type?: string; retry_after?: number; details: Record<string, unknown> };
}
interface LoginBody {
  success: boolean;
  data: {
    user: { id: string; username: string; roles: string[] };
    tokens: { access_token: string; refresh_token: string; token_type: string; expires_in: number };
    session: { session_id: string; expires_at: string };
  };
}

let app: TestApp;
let user: { id: string; username: string };
let count = 0;

beforeAll(async () => {
  app = await startTestApp({
    NEXUS_JWT_SECRET: SECRET,
    NEXUS_ACCESS_TOKEN_TTL: '600',
    NEXUS_TRUSTED_PROXIES: '127.0.0.0/8',
  });
});
afterAll(() => app.stop());
beforeEach(async () => void (user = await newUser()));

async function newUser(roles = ['viewer']): Promise<{ id: string; username: string }> {
  const passwordHash = await app.get(PasswordHasher).hash(PASSWORD);
  return app.db.transaction((tx) => app.get(Users).create(tx, { username: `Ada${++count}`, passwordHash, roles }));
}

function tryLogin(username: string, password: string, more: object = {}): Promise<Answer<LoginBody & Failure>> {
  return app.call('POST', `${AUTH}/login`, { body: { username, password, ...more } });
}

async function login(more: object = {}): Promise<LoginBody['data']> {
  const { status, body } = await tryLogin(user.username, PASSWORD, more);
  expect(status).toBe(200);
  return body.data;
}

const refresh = (refresh_token: string): Promise<Answer<{ data: LoginBody['data']['tokens'] } & Failure>> =>
  app.call('POST', `${AUTH}/refresh`, { body: { refresh_token } });
const me = (key: string): Promise<Answer<Failure>> => app.call('GET', `${AUTH}/me`, { key });

/** A login as a proxy hands it over from this address. */
function loginAt(address: string, password: string): Promise<Answer<LoginBody & Failure>> {
  return app.call('POST', `${AUTH}/login`, {
    body: { username: user.username, password },
    headers: { 'x-forwarded-for': address },
  });
}

/** Moves all waits so far towards their end. */
const passTime = (seconds: number): Promise<unknown> =>
  app.db.query(`UPDATE login_attempts SET last_at = last_at - make_interval(secs => $1)`, [seconds]);

/** A login from another address of the loopback network. */
async function loginFrom(address: string, password: string): Promise<number> {
  const dispatcher = new Agent({ localAddress: address });
  try {
    const answer = await undiciFetch(`${app.url}${AUTH}/login`, {
      method: 'POST',
      dispatcher,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ username: user.username, password }),
    });
    await answer.text();
    return answer.status;
  } finally {
    await dispatcher.close();
  }
}

describe('logging in', () => {
  it('answers with user, tokens and session, whatever the case of the name', async () => {
    const { status, body } = await tryLogin(user.username.toUpperCase(), PASSWORD);
    expect(status).toBe(200);
    expect(body).toMatchObject({
      success: true,
      data: {
        user: { id: `user_${user.id}`, username: user.username, roles: ['viewer'], status: 'active' },
        tokens: { token_type: 'Bearer', expires_in: 600 },
      },
    });
    expect(JSON.stringify(body)).not.toContain('argon2');
    const days = (Date.parse(body.data.session.expires_at) - Date.now()) / 86_400_000;
    expect(days).toBeCloseTo(30, 1);
    const claims = decodeJwt(body.data.tokens.access_token);
    expect(claims).toMatchObject({
      sub: `user_${user.id}`,
      sid: body.data.session.session_id,
      roles: ['viewer'],
      iss: 'nexus',
      aud: 'nexus-api',
    });
    expect(claims.scopes).toContain('telemetry:read');
    expect(claims.exp! - claims.iat!).toBe(600);
    expect(decodeProtectedHeader(body.data.tokens.access_token)).toMatchObject({ alg: 'HS256', typ: 'at+jwt' });
  });

  it('keeps the session for thirty days, fourteen unused, and for one where that is asked for', async () => {
    for (const [remember_me, days, idle] of [
      [undefined, 30, 14],
      [true, 30, 14],
      [false, 1, 1],
    ]) {
      const { session } = await login({ remember_me });
      const [token] = await app.db.query<{ expires_at: Date }>(
        `SELECT expires_at FROM refresh_tokens WHERE session_id = $1`,
        [session.session_id.slice('sess_'.length)],
      );
      const daysUntil = (time: string | Date): number => (new Date(time).getTime() - Date.now()) / 86_400_000;
      expect(daysUntil(session.expires_at)).toBeCloseTo(Number(days), 1);
      expect(daysUntil(token.expires_at)).toBeCloseTo(Number(idle), 1);
    }
  });

  it('gives a token that works, and tells what it is', async () => {
    const { tokens, session } = await login();
    const { status, body } = await app.call('GET', `${AUTH}/verify`, { key: tokens.access_token });
    expect(status).toBe(200);
    expect(body).toMatchObject({
      data: {
        valid: true,
        user: { id: `user_${user.id}` },
        token_info: { type: 'user', credential_id: session.session_id, roles: ['viewer'] },
      },
    });
    expect((await me(tokens.access_token)).status).toBe(200);
  });

  it('publishes the event and counts the session', async () => {
    await login();
    const events = await app.db.query(`SELECT data FROM events WHERE type = 'user.login' AND subject = $1`, [
      `user_${user.id}`,
    ]);
    expect(events).toHaveLength(1);
    expect(await app.get(Metrics).registry.metrics()).toMatch(/nexus_active_sessions [1-9]/);
  });

  it('refuses bad bodies by naming the field', async () => {
    for (const body of [
      {},
      { username: 'a' },
      { username: 1, password: 'x' },
      { username: 'a', password: 'b', x: 1 },
    ]) {
      const { status } = await app.call('POST', `${AUTH}/login`, { body });
      expect(status).toBe(400);
    }
  });
});

describe('a wrong login', () => {
  it('with more keys than a login could need is refused before it is looked at', async () => {
    const keys = Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`key${n}`, 1]));
    const { status, body } = await tryLogin(user.username, PASSWORD, keys);
    const tooMany = expect.objectContaining({ issue: 'has more than 80 keys' }) as unknown;
    expect([status, body.error.details]).toEqual([400, [tooMany]]);
  });

  it('looks the same for an unknown name, a suspended one, a deleted one, one without password and a wrong password', async () => {
    const wrong = await tryLogin(user.username, 'not the password');
    expect(wrong.status).toBe(401);
    expect(wrong.body.error).toMatchObject({
      code: 'AUTHENTICATION_FAILED',
      type: 'INVALID_CREDENTIALS',
      details: { attempts_remaining: 4 },
    });
    const [suspended, deleted] = [await newUser(), await newUser()];
    await app.db.query(`UPDATE users SET status = 'suspended' WHERE id = $1`, [suspended.id]);
    await app.db.query(`UPDATE users SET status = 'deleted' WHERE id = $1`, [deleted.id]);
    const keyOnly = await actor(app);
    const shape = ({ status, body }: Answer<Failure>): unknown => ({
      status,
      error: { ...body.error, request_id: '', timestamp: '' },
    });
    for (const name of ['nobody-at-all', suspended.username, deleted.username, keyOnly.username]) {
      expect(shape(await tryLogin(name, PASSWORD))).toEqual(shape(wrong));
    }
  });

  it('locks the address out after five, also for the right password, and no other address', async () => {
    for (let left = 4; left >= 0; left--) {
      const { status, body } = await tryLogin(user.username, 'wrong');
      expect([status, body.error.details]).toEqual([401, { attempts_remaining: left }]);
    }
    const locked = await tryLogin(user.username, PASSWORD);
    expect(locked.status).toBe(423);
    expect(locked.body.error).toMatchObject({ code: 'ACCOUNT_LOCKED' });
    expect(locked.body.error.retry_after).toBeGreaterThan(800);
    expect(locked.body.error.retry_after).toBeLessThanOrEqual(900);
    expect(locked.headers.get('retry-after')).toBe(String(locked.body.error.retry_after));
    expect(await loginFrom('127.0.0.2', PASSWORD)).toBe(200);
    // Waiting is not made longer by trying.
    await app.db.query(`UPDATE login_attempts SET last_at = now() - interval '15 minutes 1 second'`);
    expect((await tryLogin(user.username, PASSWORD)).status).toBe(200);
  });

  it('locks unknown names just the same', async () => {
    const statuses = [];
    for (let i = 0; i < 6; i++) statuses.push((await tryLogin('Nobody', 'wrong')).status);
    expect(statuses).toEqual([401, 401, 401, 401, 401, 423]);
    expect((await tryLogin('nobody', 'wrong')).status).toBe(423);
  });

  it('cannot be repeated faster by sending attempts together', async () => {
    const answers = await Promise.all(Array.from({ length: 12 }, () => tryLogin(user.username, 'wrong')));
    const checked = answers.filter(({ status }) => status === 401).length;
    expect(checked).toBeLessThanOrEqual(5);
    // On a busy machine the password hashing may turn one away, which does not count as an attempt.
    expect(answers.filter(({ status }) => status === 423 || status === 503)).toHaveLength(12 - checked);
  });

  it('does not keep the owner waiting in a network of theirs, however many others guess', async () => {
    const home = '203.0.113.7';
    expect((await loginAt(home, PASSWORD)).status).toBe(200);
    const guess = (n: number): Promise<Answer<LoginBody & Failure>> =>
      app.call('POST', `${AUTH}/login`, {
        body: { username: `made-up-${n}`, password: 'wrong' },
        headers: { 'x-forwarded-for': `198.51.100.${n}` },
      });
    for (let round = 0; round < 3; round++) {
      let guessing = 60;
      const guesses = Array.from({ length: guessing }, (_, n) => guess(n).finally(() => guessing--));
      // The queue of the password hashes is full now.
      await eventually(() => guessing < 60);
      const right = await loginAt(home, PASSWORD);
      expect([right.status, guessing > 0]).toEqual([200, true]);
      expect((await Promise.all(guesses)).some(({ status }) => status === 503)).toBe(true);
    }
  });

  it('is forgotten after a right one', async () => {
    for (let i = 0; i < 4; i++) await tryLogin(user.username, 'wrong');
    expect((await tryLogin(user.username, PASSWORD)).status).toBe(200);
    expect((await tryLogin(user.username, 'wrong')).body.error.details).toEqual({ attempts_remaining: 4 });
  });

  it('makes a network wait longer each time, and all addresses of a /64 together', async () => {
    for (let n = 0; n < 5; n++) expect((await loginAt(`2001:db8:7:7::${n}`, 'wrong')).status).toBe(401);
    expect((await loginAt('2001:db8:7:7:ffff::1', PASSWORD)).status).toBe(423);
    const waits: number[] = [];
    for (let n = 0; n < 3; n++) {
      await passTime((waits.at(-1) ?? 900) + 1);
      const wrong = await loginAt(`2001:db8:7:7::a${n}`, 'wrong');
      expect([wrong.status, wrong.body.error.details]).toEqual([401, { attempts_remaining: 0 }]);
      waits.push((await loginAt(`2001:db8:7:7::b${n}`, PASSWORD)).body.error.retry_after ?? 0);
    }
    expect(waits.map((seconds) => Math.round(seconds / 60))).toEqual([30, 60, 120]);
    expect((await loginAt('2001:db8:7:8::1', PASSWORD)).status).toBe(200);
  });

  it('keeps nobody out of a network that has logged in for more than a quarter of an hour', async () => {
    expect((await loginAt('198.51.100.7', PASSWORD)).status).toBe(200);
    for (let n = 0; n < 9; n++) {
      expect((await loginAt('198.51.100.7', 'wrong')).status).toBe(401);
      if (n >= 4) {
        expect((await loginAt('198.51.100.7', 'wrong')).body.error.retry_after).toBeLessThanOrEqual(900);
        await passTime(901);
      }
    }
    expect((await loginAt('198.51.100.7', PASSWORD)).status).toBe(200);
  });

  it('slows many addresses down together, stops them at a hundred, and never a network of the owner', async () => {
    expect((await loginAt('198.51.100.8', PASSWORD)).status).toBe(200);
    let address = 0;
    const guess = async (): Promise<number> => {
      const n = ++address;
      return (await loginAt(`10.${n >> 8}.${n & 255}.1`, 'wrong')).status;
    };
    let evaluated = 0;
    for (let n = 0; n < 60; n++) if ((await guess()) === 401) evaluated++;
    expect(evaluated).toBeGreaterThanOrEqual(20);
    expect(evaluated).toBeLessThan(40);
    const slowed = await loginAt('192.0.2.1', PASSWORD);
    expect(slowed.status).toBe(423);
    expect(slowed.body.error.retry_after).toBeLessThanOrEqual(900);
    for (let n = 0; n < 150; n++) {
      await passTime(900);
      if ((await guess()) === 401) evaluated++;
    }
    expect(evaluated).toBe(100);
    const stopped = await loginAt('192.0.2.2', PASSWORD);
    expect(stopped.status).toBe(423);
    // The owner at home is not touched by any of it, and ends the stop.
    expect((await loginAt('198.51.100.8', 'wrong')).body.error.details).toEqual({ attempts_remaining: 4 });
    expect((await loginAt('198.51.100.8', PASSWORD)).status).toBe(200);
    expect((await loginAt('192.0.2.3', PASSWORD)).status).toBe(200);
  });

  it('lets one guess a day through once a hundred have failed, and the owner elsewhere after a quarter of an hour before', async () => {
    const failed = (failures: number): Promise<unknown> =>
      app.db.query(
        `INSERT INTO login_attempts (account, network, failures) VALUES (sha256(convert_to(lower($1), 'UTF8')), '', $2)
         ON CONFLICT (account, network) DO UPDATE SET failures = $2, last_at = now()`,
        [user.username, failures],
      );
    await failed(100);
    await passTime(86_390);
    expect((await loginAt('192.0.2.10', PASSWORD)).status).toBe(423);
    await passTime(11);
    expect((await loginAt('192.0.2.11', 'wrong')).status).toBe(401);
    const again = await loginAt('192.0.2.12', PASSWORD);
    expect(again.status).toBe(423);
    expect(again.body.error.retry_after).toBeGreaterThan(86_000);
    await failed(99);
    expect((await loginAt('192.0.2.13', PASSWORD)).body.error.retry_after).toBeLessThanOrEqual(900);
    await passTime(900);
    expect((await loginAt('192.0.2.13', PASSWORD)).status).toBe(200);
  });

  it('knows only the network of the change once the password is changed', async () => {
    const next = 'four loud herons circle';
    const [home, away] = [await loginAt('198.51.100.20', PASSWORD), await loginAt('198.51.100.21', PASSWORD)];
    expect([home.status, away.status]).toEqual([200, 200]);
    const changed = await app.call('PUT', `${AUTH}/password`, {
      key: home.body.data.tokens.access_token,
      body: { current_password: PASSWORD, new_password: next, confirm_password: next },
      headers: { 'x-forwarded-for': '198.51.100.20' },
    });
    expect(changed.status).toBe(200);
    const known = await app.db.query(`SELECT network FROM login_networks WHERE user_id = $1`, [user.id]);
    expect(known).toEqual([{ network: '198.51.100.20' }]);
  });
});

describe('login and refresh', () => {
  it('are limited by address', async () => {
    const limited = await startTestApp({ NEXUS_RATE_LIMITS: 'on' });
    try {
      const statuses: number[] = [];
      for (let i = 0; i < 12; i++) {
        const route = i % 2 ? 'login' : 'refresh';
        const body = i % 2 ? { username: `nobody${i}`, password: 'x' } : { refresh_token: 'x' };
        statuses.push((await limited.call('POST', `${AUTH}/${route}`, { body })).status);
      }
      expect(statuses).toEqual([...Array.from({ length: 10 }, () => 401), 429, 429]);
    } finally {
      await limited.stop();
    }
  });
});

describe('the audit trail', () => {
  interface Entry {
    actor_id: string;
    credential_id: string | null;
    action: string;
    status_code: number;
  }
  const entriesOf = (sessionId: string): Promise<Entry[]> =>
    app.db.query<Entry>(
      `SELECT actor_id, credential_id, action, status_code FROM audit_entries WHERE credential_id = $1 ORDER BY id`,
      [sessionId],
    );

  it('names the user and the session of logins, refreshes and refresh tokens that are used again', async () => {
    const { tokens, session } = await login();
    expect((await refresh(tokens.refresh_token)).status).toBe(200);
    expect((await refresh(tokens.refresh_token)).status).toBe(401);
    const own = { actor_id: `user_${user.id}`, credential_id: session.session_id };
    expect(await entriesOf(session.session_id)).toEqual([
      { ...own, action: 'POST /api/v1/auth/login', status_code: 200 },
      { ...own, action: 'POST /api/v1/auth/refresh', status_code: 200 },
      { ...own, action: 'POST /api/v1/auth/refresh', status_code: 401 },
    ]);
  });

  it('has no entry of a success for a refresh token that is unknown or has expired', async () => {
    const { tokens, session } = await login();
    await app.db.query(`UPDATE refresh_tokens SET expires_at = now() - interval '1 second' WHERE session_id = $1`, [
      session.session_id.slice(5),
    ]);
    const count = async (): Promise<unknown[]> =>
      app.db.query(`SELECT 1 FROM audit_entries WHERE action = 'POST /api/v1/auth/refresh'`);
    const before = (await count()).length;
    expect((await refresh(tokens.refresh_token)).status).toBe(401);
    await app.db.query(`DELETE FROM refresh_tokens WHERE session_id = $1`, [session.session_id.slice(5)]);
    expect((await refresh(tokens.refresh_token)).status).toBe(401);
    expect(await count()).toHaveLength(before);
  });
});

describe('a refresh token', () => {
  it('is exchanged for new tokens', async () => {
    const { tokens } = await login();
    const { status, body } = await refresh(tokens.refresh_token);
    expect(status).toBe(200);
    expect(body.data.refresh_token).not.toBe(tokens.refresh_token);
    expect((await me(body.data.access_token)).status).toBe(200);
  });

  it('ends the session when it is used again', async () => {
    const { tokens } = await login();
    const { body } = await refresh(tokens.refresh_token);
    expect((await me(body.data.access_token)).status).toBe(200);
    const again = await refresh(tokens.refresh_token);
    expect(again.status).toBe(401);
    expect(again.body.error.type).toBe('TOKEN_INVALID');
    expect((await refresh(body.data.refresh_token)).status).toBe(401);
    for (const token of [tokens.access_token, body.data.access_token]) expect((await me(token)).status).toBe(401);
  });

  it('is given to one of two that use it at the same time', async () => {
    const { tokens } = await login();
    const answers = await Promise.all([1, 2, 3, 4].map(() => refresh(tokens.refresh_token)));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 401, 401, 401]);
    expect((await me(tokens.access_token)).status).toBe(401);
  });

  it('ends the session also when the request asks to be idempotent', async () => {
    const { tokens } = await login();
    await refresh(tokens.refresh_token);
    const again = await app.call('POST', `${AUTH}/refresh`, {
      body: { refresh_token: tokens.refresh_token },
      headers: { 'idempotency-key': 'x1' },
    });
    expect(again.status).toBe(401);
    expect((await me(tokens.access_token)).status).toBe(401);
  });

  it('expires, and is nothing else', async () => {
    const { tokens } = await login();
    await app.db.query(`UPDATE refresh_tokens SET expires_at = now() - interval '1 second'`);
    const expired = await refresh(tokens.refresh_token);
    expect([expired.status, expired.body.error.type]).toEqual([401, 'TOKEN_EXPIRED']);
    for (const text of ['x', tokens.access_token, `${tokens.refresh_token}x`]) {
      expect((await refresh(text.slice(0, 256))).status).toBe(401);
    }
    expect((await me(tokens.refresh_token)).status).toBe(401);
  });

  it('dies with its user', async () => {
    const { tokens } = await login();
    await app.db.query(`UPDATE users SET status = 'suspended' WHERE id = $1`, [user.id]);
    expect((await refresh(tokens.refresh_token)).status).toBe(401);
    await eventually(async () => (await me(tokens.access_token)).status === 401, 3000);
  });
});

describe('an access token', () => {
  const key = Buffer.from(SECRET);
  async function forge(
    change: { header?: object; claims?: object; secret?: Buffer } = {},
  ): Promise<{ token: string; genuine: string }> {
    const genuine = (await login()).tokens.access_token;
    const header = { ...decodeProtectedHeader(genuine), ...change.header };
    const payload = { ...decodeJwt(genuine), ...change.claims };
    const token = await new SignJWT(payload).setProtectedHeader(header as { alg: string }).sign(change.secret ?? key);
    return { token, genuine };
  }

  it('made by hand with the right key and claims is taken (so the refusals below are for their reason)', async () => {
    expect((await me((await forge()).token)).status).toBe(200);
  });

  it('is refused with a wrong type, key id, key, audience, issuer, subject or session', async () => {
    for (const change of [
      { header: { typ: 'JWT' } },
      { header: { typ: undefined } },
      { header: { kid: 'other' } },
      { header: { kid: undefined } },
      { header: { kid: '__proto__' } },
      { secret: Buffer.from('another-secret-with-enough-bytes-in-it') },
      { claims: { aud: 'others' } },
      { claims: { iss: 'others' } },
      { claims: { sub: 'user_00000000-0000-4000-8000-000000000000' } },
      { claims: { sub: undefined } },
      { claims: { sid: 'sess_00000000-0000-4000-8000-000000000000' } },
      { claims: { exp: undefined } },
      { claims: { jti: undefined } },
      { claims: { iat: undefined } },
    ]) {
      const { status, body } = await me((await forge(change)).token);
      expect([change, status, body.error?.type]).toEqual([change, 401, 'TOKEN_INVALID']);
    }
  });

  it('is refused with another algorithm or none', async () => {
    const { genuine } = await forge();
    const [header, payload, signature] = genuine.split('.');
    const { kid } = decodeProtectedHeader(genuine);
    const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
    const hs512 = `${encode({ alg: 'HS512', typ: 'at+jwt', kid })}.${payload}`;
    for (const token of [
      `${encode({ alg: 'none', typ: 'at+jwt', kid })}.${payload}.`,
      `${encode({ alg: 'none', typ: 'at+jwt', kid })}.${payload}.${signature}`,
      `${hs512}.${createHmac('sha512', SECRET).update(hs512).digest('base64url')}`,
      `${header}.${encode({ ...decodeJwt(genuine), roles: ['admin'] })}.${signature}`,
      `${header}.${payload}.${signature.slice(0, -2)}AA`,
      `${header}.${payload}.`,
      'a.b.c',
      '..',
    ]) {
      expect([token, (await me(token)).status]).toEqual([token, 401]);
    }
  });

  it('says when it has expired', async () => {
    const now = Math.floor(Date.now() / 1000);
    const { status, body } = await me((await forge({ claims: { iat: now - 700, exp: now - 100 } })).token);
    expect([status, body.error.type]).toEqual([401, 'TOKEN_EXPIRED']);
    expect((await me((await forge({ claims: { exp: now - 30 } })).token)).status).toBe(200);
  });

  it('does not bring roles: the row decides', async () => {
    const { token } = await forge({ claims: { roles: ['admin'], scopes: ['*'] } });
    expect((await app.call('GET', '/api/v1/security/audit', { key: token })).status).toBe(403);
  });

  it("is void when the user's not_before is raised", async () => {
    const { token } = await forge();
    await app.db.query(`UPDATE users SET not_before = now() WHERE id = $1`, [user.id]);
    await eventually(async () => (await me(token)).status === 401, 3000);
  });
});

describe('logging out', () => {
  it('ends the session at once, with its refresh token', async () => {
    const { tokens } = await login();
    expect((await me(tokens.access_token)).status).toBe(200);
    const { status, body } = await app.call('POST', `${AUTH}/logout`, { key: tokens.access_token });
    expect([status, body.data]).toEqual([200, { message: 'Logged out' }]);
    expect((await me(tokens.access_token)).status).toBe(401);
    expect((await refresh(tokens.refresh_token)).status).toBe(401);
  });
});

describe('sessions', () => {
  it('are listed and ended, one or all others', async () => {
    const [a, b, c] = [await login(), await login(), await login()];
    const list = await app.call<{ data: { sessions: { id: string; is_current: boolean; ip: string }[] } }>(
      'GET',
      `${AUTH}/sessions`,
      { key: a.tokens.access_token },
    );
    expect(list.body.data.sessions).toHaveLength(3);
    expect(list.body.data.sessions.filter((s) => s.is_current).map((s) => s.id)).toEqual([a.session.session_id]);
    for (let i = 0; i < 2; i++) {
      const ended = await app.call('DELETE', `${AUTH}/sessions/${b.session.session_id}`, {
        key: a.tokens.access_token,
      });
      expect([ended.status, ended.body.data]).toEqual([200, { message: 'The session has ended' }]);
      expect((await me(b.tokens.access_token)).status).toBe(401);
    }
    const others = await app.call('DELETE', `${AUTH}/sessions`, { key: a.tokens.access_token });
    expect(others.body.data).toMatchObject({ ended: 1 });
    expect((await me(c.tokens.access_token)).status).toBe(401);
    expect((await me(a.tokens.access_token)).status).toBe(200);
  });

  it('of others do not exist for me, nor mine for my small keys', async () => {
    const mine = await login();
    const other = await actor(app, { role: 'admin' });
    const target = `${AUTH}/sessions/${mine.session.session_id}`;
    expect((await app.call('DELETE', target, { key: other.key })).status).toBe(404);
    expect((await app.call('DELETE', `${AUTH}/sessions/nonsense`, { key: other.key })).status).toBe(404);
    const small = await actor(app, { scopes: ['telemetry:write'] });
    expect((await app.call('GET', `${AUTH}/sessions`, { key: small.key })).status).toBe(403);
  });

  it('are deleted when their time is over', async () => {
    const [live, over] = [await login(), await login()];
    await app.db.query(`UPDATE sessions SET expires_at = now() - interval '1 second' WHERE id = $1`, [
      over.session.session_id.slice(5),
    ]);
    await app.get(Retention).run();
    const left = await app.db.query<{ id: string }>(`SELECT id FROM sessions WHERE user_id = $1`, [user.id]);
    expect(left.map(({ id }) => `sess_${id}`)).toEqual([live.session.session_id]);
  });
});

describe('changing the password', () => {
  const next = 'four loud herons circle';
  const change = (key: string, body: object): Promise<Answer<Failure & { data: object }>> =>
    app.call('PUT', `${AUTH}/password`, { key, body });

  it('ends the other sessions and keeps this one', async () => {
    const [a, b] = [await login(), await login()];
    const { status } = await change(a.tokens.access_token, {
      current_password: PASSWORD,
      new_password: next,
      confirm_password: next,
    });
    expect(status).toBe(200);
    expect((await me(a.tokens.access_token)).status).toBe(200);
    expect((await me(b.tokens.access_token)).status).toBe(401);
    expect((await refresh(b.tokens.refresh_token)).status).toBe(401);
    expect((await tryLogin(user.username, PASSWORD)).status).toBe(401);
    expect((await tryLogin(user.username, next)).status).toBe(200);
  });

  it('needs the current one, and a new one that is good', async () => {
    const { tokens } = await login();
    const wrong = await change(tokens.access_token, {
      current_password: 'wrong',
      new_password: next,
      confirm_password: next,
    });
    expect([wrong.status, wrong.body.error.type]).toEqual([401, 'INVALID_CREDENTIALS']);
    for (const [new_password, confirm_password, code] of [
      ['short', 'short', 'WEAK_PASSWORD'],
      [`${user.username} and more of it`, `${user.username} and more of it`, 'WEAK_PASSWORD'],
      ['passwordpassword', 'passwordpassword', 'WEAK_PASSWORD'],
      [PASSWORD, PASSWORD, 'VALIDATION_ERROR'],
      [next, `${next}!`, 'VALIDATION_ERROR'],
    ]) {
      const refused = await change(tokens.access_token, { current_password: PASSWORD, new_password, confirm_password });
      expect([new_password, refused.status, refused.body.error.code]).toEqual([new_password, 400, code]);
    }
  });

  it('counts guesses of the current one from unknown networks together, as a login does', async () => {
    const { tokens } = await login();
    const statuses: number[] = [];
    for (let n = 0; n < 40; n++) {
      const { status } = await app.call('PUT', `${AUTH}/password`, {
        key: tokens.access_token,
        body: { current_password: 'wrong', new_password: next, confirm_password: next },
        headers: { 'x-forwarded-for': `10.7.${n}.1` },
      });
      statuses.push(status);
    }
    expect(statuses).toContain(423);
    expect(statuses.filter((status) => status === 401).length).toBeLessThan(40);
  });

  it('is not for a key without user:admin', async () => {
    const { tokens } = await login();
    const create = async (permissions: string[]): Promise<string> => {
      const body = { name: 'one', permissions };
      const made = await app.call('POST', `${AUTH}/api-keys`, { key: tokens.access_token, body });
      return (made.body as { data: { api_key: { key: string } } }).data.api_key.key;
    };
    const weak = await change(await create(['telemetry:read']), {
      current_password: PASSWORD,
      new_password: next,
      confirm_password: next,
    });
    expect([weak.status, weak.body.error.details]).toEqual([403, { required_scopes: ['user:admin'] }]);
    expect((await tryLogin(user.username, PASSWORD)).status).toBe(200);
  });
});

describe('the public keys', () => {
  it('are none while tokens are signed with a secret', async () => {
    const { status, body } = await app.call('GET', `${AUTH}/jwks`);
    expect([status, body]).toEqual([200, { keys: [] }]);
  });
});

describe('what the caller may do', () => {
  it('is told scope by scope, in either spelling', async () => {
    const { tokens } = await login();
    const { body } = await app.call('POST', `${AUTH}/check-permissions`, {
      key: tokens.access_token,
      body: { permissions: ['telemetry:read', 'read:plugins', 'command:write', 'no:such'] },
    });
    expect(body.data).toEqual({
      permissions: { 'telemetry:read': true, 'read:plugins': true, 'command:write': false, 'no:such': false },
      has_all: false,
    });
  });
});
