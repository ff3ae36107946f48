import { createHmac, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AuditTrail } from '../../src/security/audit-trail.js';
import { HookRefusals } from '../../src/hooks/hook-refusals.js';
import { JobQueue } from '../../src/platform/jobs/index.js';
import { CheckOwnerRights } from '../../src/platform/ownership/index.js';
import { Retention } from '../../src/platform/retention/index.js';
import { actor } from '../support/actors.js';
import { type Answer, eventually, startTestApp, type TestApp } from '../support/app.js';
import { payloadOf, Receiver } from '../webhooks/receiver.js';

const HOOKS = '/api/v1/hooks';

interface Hook {
  hook_id: string;
  name: string;
  scheme: string;
  event_type: string;
  enabled: boolean;
  received_count: number;
  rejected_count: number;
  last_received_at: string | null;
  previous_secret_until: string | null;
  version: number;
  secret: string;
}
interface Received {
  status: string;
  event_id: string;
  event_type: string;
  duplicate: boolean;
  error: { code: string; message: string; type: string; details: { field: string }[] };
}
type Headers = Record<string, string>;

let app: TestApp;
let admin: string;

beforeAll(async () => {
  app = await startTestApp({ NEXUS_EGRESS_ALLOW: '127.0.0.1' });
  admin = (await actor(app)).key;
});
afterAll(() => app.stop());

async function open(body: object = {}): Promise<Hook> {
  const answer = await app.call<Hook>('POST', HOOKS, { key: admin, body: { name: `h${randomUUID()}`, ...body } });
  expect(answer.status).toBe(201);
  return answer.body;
}

async function show({ hook_id }: Hook): Promise<Hook> {
  return (await app.call<Hook>('GET', `${HOOKS}/${hook_id}`, { key: admin })).body;
}

function standard(secret: string, text: string, id = `msg_${randomUUID()}`, at = Date.now() / 1000): Headers {
  const key = Buffer.from(secret.replace('whsec_', ''), 'base64');
  const timestamp = String(Math.floor(at));
  const signature = createHmac('sha256', key).update(`${id}.${timestamp}.${text}`).digest('base64');
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${signature}` };
}

const hex = (secret: string, text: string): string =>
  `sha256=${createHmac('sha256', secret).update(text).digest('hex')}`;

function send(name: string, body: string, headers: Headers, on = app): Promise<Answer<Received>> {
  return on.call<Received>('POST', `${HOOKS}/${name}`, { body, headers });
}

async function eventsOf(
  type: string,
): Promise<{ id: string; data: unknown; source: string; actor_id: string; metadata: object }[]> {
  return app.db.query('SELECT id, data, source, actor_id, metadata FROM events WHERE type = $1 ORDER BY occurred_at', [
    type,
  ]);
}

describe('a call', () => {
  it('with a right signature becomes an event with the body as its data', async () => {
    const hook = await open();
    // Blanks and order matter: the signature is over the bytes.
    const text = '{ "b": 1,\n "a": "é" }';
    const answer = await send(hook.name, text, standard(hook.secret, text, 'msg_1'));
    expect(answer.status).toBe(202);
    const type = `hook.${hook.name.replaceAll('-', '_')}.received`;
    const [event] = await eventsOf(type);
    expect(answer.body).toEqual({
      status: 'accepted',
      event_id: `evt_${event.id}`,
      event_type: type,
      duplicate: false,
    });
    expect(event).toMatchObject({
      data: { b: 1, a: 'é' },
      source: `hook:${hook.name}`,
      actor_id: hook.hook_id,
      metadata: { hook_id: hook.hook_id, message_id: 'msg_1', kind: null },
    });
    expect(await show(hook)).toMatchObject({ received_count: 1, rejected_count: 0 });
    expect(Date.parse((await show(hook)).last_received_at ?? '')).not.toBeNaN();
  });

  it('with the same message again is answered alike and has no second effect, however often at once', async () => {
    const hook = await open({ event_type: 'ci.pushed' });
    const headers = standard(hook.secret, '{"n":1}');
    const answers = await Promise.all(Array.from({ length: 8 }, () => send(hook.name, '{"n":1}', headers)));
    expect(answers.map(({ status }) => status)).toEqual(Array(8).fill(202));
    expect(new Set(answers.map(({ body }) => body.event_id)).size).toBe(1);
    expect(answers.filter(({ body }) => !body.duplicate)).toHaveLength(1);
    // The sender tries again later: the id stays, time and signature are new.
    const later = standard(hook.secret, '{"n":1}', headers['webhook-id'], Date.now() / 1000 + 60);
    expect((await send(hook.name, '{"n":1}', later)).body).toMatchObject({ duplicate: true });
    const found = (await eventsOf('ci.pushed')).filter(({ source }) => source === `hook:${hook.name}`);
    expect(found).toHaveLength(1);
    expect((await show(hook)).received_count).toBe(1);
  });

  it('reaches webhooks of the event, signed anew', async () => {
    const receiver = await Receiver.start();
    try {
      const hook = await open();
      const { status } = await app.call('POST', '/api/v1/webhooks', {
        key: admin,
        body: { url: receiver.url('/told'), events: [hook.event_type] },
      });
      expect(status).toBe(201);
      const { body } = await send(hook.name, '{"hello":"you"}', standard(hook.secret, '{"hello":"you"}'));
      const [received] = await eventually(() => receiver.at('/told').length > 0 && receiver.at('/told'));
      expect(payloadOf(received)).toMatchObject({ id: body.event_id, type: hook.event_type, data: { hello: 'you' } });
    } finally {
      await receiver.stop();
    }
  });

  it('in the way of GitHub is told by its header and its id', async () => {
    const hook = await open({ scheme: 'github', secret: 'It-is-a-secret-to-everybody', event_type: 'github.called' });
    expect(hook.secret).toBeUndefined();
    const headers = {
      'x-hub-signature-256': hex('It-is-a-secret-to-everybody', '{"ref":"main"}'),
      'x-github-event': 'push',
      'x-github-delivery': '72d3162e-cc78-11e3-81ab-4c9367dc0958',
    };
    expect((await send(hook.name, '{"ref":"main"}', headers)).status).toBe(202);
    expect((await send(hook.name, '{"ref":"main"}', headers)).body.duplicate).toBe(true);
    const found = (await eventsOf('github.called')).filter(({ source }) => source === `hook:${hook.name}`);
    expect(found.map(({ metadata }) => metadata)).toEqual([
      { hook_id: hook.hook_id, message_id: headers['x-github-delivery'], kind: 'push' },
    ]);
  });

  it('with X-Nexus-Signature comes without an id too, and is new each time', async () => {
    const hook = await open({ scheme: 'nexus' });
    const headers = { 'x-nexus-signature': hex(hook.secret, '[1,2]') };
    const first = await send(hook.name, '[1,2]', headers);
    const second = await send(hook.name, '[1,2]', headers);
    expect([first.status, second.status]).toEqual([202, 202]);
    expect(second.body.event_id).not.toBe(first.body.event_id);
    expect((await eventsOf(hook.event_type))[0].data).toEqual({ body: [1, 2] });
  });
});

describe('a refusal', () => {
  it('is the same for a wrong signature, an unknown name, a disabled hook, and what is stale', async () => {
    const hook = await open();
    const off = await open({ enabled: false });
    const good = standard(hook.secret, '{}');
    const refusals = await Promise.all([
      send(hook.name, '{"tampered":1}', good),
      send(hook.name, '{}', { ...good, 'webhook-signature': 'v1,AAAA' }),
      send(hook.name, '{}', {}),
      send(hook.name, '{}', standard(hook.secret, '{}', 'msg_old', Date.now() / 1000 - 301)),
      send(hook.name, '{}', { 'x-nexus-signature': hex(hook.secret, '{}') }),
      send(off.name, '{}', standard(off.secret, '{}')),
      send('nobody-has-this', '{}', good),
      send('UPPER%00case', '{}', good),
      send('x'.repeat(500), '{}', good),
    ]);
    for (const { status, body } of refusals) {
      expect(status).toBe(401);
      expect(body.error).toMatchObject({ type: 'SIGNATURE_INVALID', message: refusals[0].body.error.message });
    }
    expect(await eventsOf(hook.event_type)).toEqual([]);
    await app.get(HookRefusals).flush();
    expect(await show(hook)).toMatchObject({ received_count: 0, rejected_count: 5, last_received_at: null });
  });

  it('comes before the body is parsed', async () => {
    const hook = await open();
    for (const body of ['{"a":', String.raw`["\ud800"]`]) expect((await send(hook.name, body, {})).status).toBe(401);
  });

  it('names what is wrong with the body: too large, no JSON, none at all', async () => {
    const hook = await open();
    const large = JSON.stringify({ text: 'x'.repeat(256 * 1024) });
    expect((await send(hook.name, large, standard(hook.secret, large))).status).toBe(413);
    const text = await send(hook.name, 'a=b', {
      ...standard(hook.secret, 'a=b'),
      'content-type': 'application/x-www-form-urlencoded',
    });
    expect(text.status).toBe(415);
    expect((await send(hook.name, '{"a":', standard(hook.secret, '{"a":'))).status).toBe(400);
    const none = await app.call<Received>('POST', `${HOOKS}/${hook.name}`, { headers: standard(hook.secret, '') });
    expect(none.status).toBe(400);
    expect(await eventsOf(hook.event_type)).toEqual([]);
  });
});

describe('secrets', () => {
  it('are shown once, stored encrypted, and two are good while one replaces the other', async () => {
    const hook = await open();
    expect(hook.secret).toMatch(/^whsec_/);
    expect(JSON.stringify(await show(hook))).not.toContain(hook.secret);
    const [row] = await app.db.query<object>('SELECT * FROM hooks WHERE id = $1', [hook.hook_id.slice(5)]);
    expect(JSON.stringify(row)).not.toContain(hook.secret.slice(6));
    const rotated = await app.call<Hook>('POST', `${HOOKS}/${hook.hook_id}/rotate-secret`, { key: admin, body: {} });
    expect(rotated.status).toBe(201);
    for (const secret of [hook.secret, rotated.body.secret]) {
      expect((await send(hook.name, '{}', standard(secret, '{}'))).status).toBe(202);
    }
    expect((await show(hook)).previous_secret_until).toBe(rotated.body.previous_secret_until);
    const early = await app.call('POST', `${HOOKS}/${hook.hook_id}/rotate-secret`, { key: admin, body: {} });
    expect(early.status).toBe(409);
    const again = await app.call<Hook>('POST', `${HOOKS}/${hook.hook_id}/rotate-secret`, {
      key: admin,
      body: { overlap_seconds: 0 },
    });
    expect((await send(hook.name, '{}', standard(rotated.body.secret, '{}'))).status).toBe(401);
    expect((await send(hook.name, '{}', standard(again.body.secret, '{}'))).status).toBe(202);
  });
});

describe('hooks', () => {
  it('have names of their own, and no events of the server', async () => {
    const hook = await open();
    const post = (body: object): Promise<Answer<Received>> => app.call('POST', HOOKS, { key: admin, body });
    expect((await post({ name: hook.name })).status).toBe(409);
    for (const name of ['Upper', 'under_score', '-a', 'a--b', '1a', '', 'x'.repeat(64), 'a/b', 7]) {
      const { status, body } = await post({ name });
      expect([name, status, body.error.details[0].field]).toEqual([name, 400, 'name']);
    }
    for (const event_type of ['task.completed', 'security.alert', 'hook.other.received', 'user.login']) {
      const { status, body } = await post({ name: 'would-lie', event_type });
      expect([event_type, status, body.error.code]).toEqual([event_type, 403, 'EVENT_TYPE_RESERVED']);
    }
    expect((await post({ name: 'a', event_type: 'Nonsense' })).status).toBe(400);
    for (const secret of ['short', 'whsec_!!!!!!!!!!!!']) {
      expect((await post({ name: 'a', secret })).status).toBe(400);
    }
    expect((await post({ name: 'a', scheme: 'none' })).status).toBe(400);
  });

  it('are listed, changed at the version that was read, disabled and deleted', async () => {
    const hook = await open();
    const listed = await app.call<{ hooks: Hook[]; pagination: { total: number } }>('GET', `${HOOKS}?limit=1`, {
      key: admin,
    });
    expect(listed.body.hooks).toHaveLength(1);
    expect(listed.body.pagination.total).toBeGreaterThan(0);
    const patch = (body: object, headers: Headers = {}): Promise<Answer<Hook>> =>
      app.call<Hook>('PATCH', `${HOOKS}/${hook.hook_id}`, { key: admin, body, headers });
    const changed = await patch({ event_type: 'shop.paid', scheme: 'nexus' }, { 'if-match': '"v1"' });
    expect(changed.body).toMatchObject({ event_type: 'shop.paid', scheme: 'nexus', version: 2, name: hook.name });
    expect((await patch({ enabled: false }, { 'if-match': '"v1"' })).status).toBe(412);
    expect((await patch({ event_type: null })).body.event_type).toBe(hook.event_type);
    expect((await patch({ enabled: false })).body.enabled).toBe(false);
    expect((await send(hook.name, '{}', { 'x-nexus-signature': hex(hook.secret, '{}') })).status).toBe(401);
    expect((await patch({ name: 'other' })).status).toBe(400);
    expect((await app.call('DELETE', `${HOOKS}/${hook.hook_id}`, { key: admin })).status).toBe(200);
    expect((await app.call('GET', `${HOOKS}/${hook.hook_id}`, { key: admin })).status).toBe(404);
  });

  it('are for those who may read or write webhooks', async () => {
    const hook = await open();
    const viewer = (await actor(app, { role: 'viewer' })).key;
    expect((await app.call('GET', HOOKS, { key: viewer })).status).toBe(200);
    expect((await app.call('POST', HOOKS, { key: viewer, body: { name: 'mine' } })).status).toBe(403);
    expect((await app.call('PATCH', `${HOOKS}/${hook.hook_id}`, { key: viewer, body: {} })).status).toBe(403);
    expect((await app.call('DELETE', `${HOOKS}/${hook.hook_id}`, { key: viewer })).status).toBe(403);
    expect((await app.call('POST', `${HOOKS}/${hook.hook_id}/rotate-secret`, { key: viewer, body: {} })).status).toBe(
      403,
    );
    expect((await app.call('GET', HOOKS)).status).toBe(401);
  });

  it('are audited by the minute, each with its own name as the one who acts', async () => {
    const hook = await open();
    for (let n = 0; n < 3; n++) await send(hook.name, '{}', standard(hook.secret, '{}'));
    const counted = await eventually(async () => {
      await app.get(AuditTrail).flush();
      const [{ n }] = await app.db.query<{ n: number }>(
        `SELECT (SELECT coalesce(sum(count), 0) FROM audit_minutes WHERE actor_id = $1 AND action = 'POST /api/v1/hooks/:name')::int
           + (SELECT coalesce(sum(count), 0) FROM audit_entries WHERE actor_id = $1)::int AS n`,
        [hook.hook_id],
      );
      return n >= 3 && n;
    });
    expect(counted).toBe(3);
  });

  it('are two hundred at most, also when opened at once', async () => {
    const [{ n }] = await app.db.query<{ n: number }>('SELECT count(*)::int AS n FROM hooks');
    await app.db.query(
      `INSERT INTO hooks (id, name, scheme, event_type, enabled, description, secret_box, created_by, owner_id)
       SELECT gen_random_uuid(), 'filler' || i, 'standard', 'a.b', false, 'filler', '', 'user_x', 'user_x'
       FROM generate_series(1, $1::int) AS i`,
      [198 - n],
    );
    try {
      const answers = await Promise.all(
        Array.from({ length: 4 }, () =>
          app.call<Received>('POST', HOOKS, { key: admin, body: { name: `h${randomUUID()}` } }),
        ),
      );
      expect(answers.map(({ status }) => status).sort()).toEqual([201, 201, 409, 409]);
      const refused = answers.find(({ status }) => status === 409);
      expect(refused?.body.error.details).toEqual({ limit: 200 });
    } finally {
      await app.db.query(`DELETE FROM hooks WHERE description = 'filler'`);
    }
  });

  it('forget messages after a week', async () => {
    const hook = await open();
    const headers = standard(hook.secret, '{}');
    await send(hook.name, '{}', headers);
    await app.get(Retention).run();
    expect((await send(hook.name, '{}', headers)).body.duplicate).toBe(true);
    await app.db.query(`UPDATE hook_receipts SET received_at = now() - interval '8 days' WHERE hook_id = $1`, [
      hook.hook_id.slice(5),
    ]);
    await app.get(Retention).run();
    expect((await send(hook.name, '{}', headers)).body.duplicate).toBe(false);
  });
});

describe('rate limits', () => {
  it('are per hook for those who can sign, and per address for the others', async () => {
    const limited = await startTestApp({
      NEXUS_RATE_LIMITS: 'on',
      NEXUS_RATE_LIMIT_HOOKS: '3/3600',
      NEXUS_RATE_LIMIT_ANONYMOUS: '4/3600',
    });
    try {
      const { key } = await actor(limited);
      const make = async (name: string): Promise<string> =>
        (await limited.call<Hook>('POST', HOOKS, { key, body: { name } })).body.secret;
      const [one, two] = [await make('one'), await make('two')];
      const statuses: number[] = [];
      const bodies = ['{}', '{}', '{"a":', JSON.stringify('x'.repeat(256 * 1024)), '{}', '{"a":'];
      for (const body of bodies) statuses.push((await send('one', body, {}, limited)).status);
      expect(statuses).toEqual([401, 401, 401, 413, 429, 429]);
      const signed: number[] = [];
      for (let n = 0; n < 5; n++) signed.push((await send('one', '{}', standard(one, '{}'), limited)).status);
      expect(signed).toEqual([202, 202, 202, 429, 429]);
      expect((await send('two', '{}', standard(two, '{}'), limited)).status).toBe(202);
    } finally {
      await limited.stop();
    }
  });
});

describe('a hook whose owner lost rights', () => {
  it('takes no more calls, until somebody else writes it', async () => {
    const owner = await actor(app);
    const { body: hook } = await app.call<Hook>('POST', HOOKS, { key: owner.key, body: { name: `h${randomUUID()}` } });
    const other = await open();
    const call = (): Promise<Answer<Received>> => send(hook.name, '{}', standard(hook.secret, '{}'));
    expect((await call()).status).toBe(202);
    await app.call('DELETE', `/api/v1/auth/api-keys/key_${owner.keyId}`, { key: admin });
    await eventually(async () => !(await show(hook)).enabled);
    expect((await call()).status).toBe(401);
    expect((await show(other)).enabled).toBe(true);

    const revived = await app.call('PATCH', `${HOOKS}/${hook.hook_id}`, { key: admin, body: { enabled: true } });
    expect(revived.status).toBe(200);
    await app.get(JobQueue).enqueue(CheckOwnerRights, {});
    expect((await call()).status).toBe(202);
  });

  it('with a chosen name of its events needs event:emit as well', async () => {
    const webhooks = await actor(app, { scopes: ['webhook:write', 'webhook:read'] });
    const type = `deploy.n${randomUUID().slice(0, 8)}`;
    const as = (key: string, method: 'POST' | 'PATCH', path: string, body: object): Promise<Answer<Received>> =>
      app.call<Received>(method, `${HOOKS}${path}`, { key, body });
    const refused = await as(webhooks.key, 'POST', '', { name: `h${randomUUID()}`, event_type: type });
    expect(refused.status).toBe(403);
    expect(refused.body.error.details).toMatchObject({ field: 'event_type', required_scopes: ['event:emit'] });
    expect((await as(webhooks.key, 'POST', '', { name: `h${randomUUID()}` })).status).toBe(201);

    const owner = await actor(app, { scopes: ['webhook:write', 'event:emit'] });
    const name = `h${randomUUID()}`;
    const made = await app.call<Hook>('POST', HOOKS, { key: owner.key, body: { name, event_type: type } });
    const hook = made.body;
    const own = await open();
    for (const [path, body] of [
      [`/${own.hook_id}`, { event_type: type }],
      [`/${hook.hook_id}`, { description: 'taken over' }],
    ] as const) {
      expect((await as(webhooks.key, 'PATCH', path, body)).status).toBe(403);
    }
    expect((await as(webhooks.key, 'POST', `/${hook.hook_id}/rotate-secret`, {})).status).toBe(403);
    expect((await as(webhooks.key, 'PATCH', `/${own.hook_id}`, { description: 'its own name' })).status).toBe(200);

    await app.db.query(`UPDATE credentials SET scopes = '{webhook:write}' WHERE id = $1`, [owner.keyId]);
    await app.get(JobQueue).enqueue(CheckOwnerRights, {});
    await eventually(async () => !(await show(hook)).enabled);
    expect((await send(hook.name, '{}', standard(hook.secret, '{}'))).status).toBe(401);
    expect((await as(webhooks.key, 'PATCH', `/${hook.hook_id}`, { enabled: true })).status).toBe(403);
    expect((await as(webhooks.key, 'PATCH', `/${hook.hook_id}`, { enabled: false })).status).toBe(200);
    expect((await as(admin, 'PATCH', `/${hook.hook_id}`, { enabled: true })).status).toBe(200);
  });
});
