import { execFileSync, spawnSync } from 'node:child_process';
import { createHmac, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { AgentRegistered } from '../../src/agents/agents.events.js';
import { runDetached } from '../../src/platform/context/index.js';
import { Database } from '../../src/platform/database/index.js';
import { EventBus, EventCatalogue } from '../../src/platform/events/index.js';
import { JobQueue } from '../../src/platform/jobs/index.js';
import { Retention } from '../../src/platform/retention/index.js';
import { UserLoggedOut } from '../../src/security/security.events.js';
import { actor } from '../support/actors.js';
import { eventually, type TestApp } from '../support/app.js';
import { ActiveWebhooks } from '../../src/webhooks/active-webhooks.js';
import { addDeliveries } from '../../src/webhooks/deliveries.queries.js';
import { WebhookHealth } from '../../src/webhooks/webhook-health.js';
import { askNodeReceiver, askPythonChecks } from './printed-receivers.js';
import { type Delivery, type Registered, WebhookBench } from './harness.js';
import { eventBytes, type Payload, payloadOf, type Receiver, type Received, status } from './receiver.js';

interface Rotated {
  secret: string;
  previous_secret_until: string;
  error: { details: object };
}

const hasPython = spawnSync('python3', ['--version']).status === 0;

let bench: WebhookBench;
let app: TestApp;
let receiver: Receiver;
let key: string;

beforeAll(async () => {
  bench = await WebhookBench.start({ NEXUS_WEBHOOK_RETENTION_DAYS: '4' });
  ({ app, receiver, key } = bench);
});
afterAll(() => bench.stop());

describe('registering a webhook', () => {
  it('answers with all documented fields, and with a secret when none was given', async () => {
    const { status: code, body } = await app.call('POST', '/api/v1/webhooks', {
      key,
      body: { url: receiver.url(), events: ['task.completed', 'command.failed', 'telemetry.alert'], active: true },
    });
    expect(code).toBe(201);
    expect(body).toMatchObject({
      webhook_id: expect.stringMatching(/^webhook_/) as string,
      status: 'active',
      retry_config: { max_retries: 3, retry_delay_seconds: 60 },
      secret: expect.stringMatching(/^whsec_[A-Za-z0-9+/]{43}=$/) as string,
    });
    await bench.remove(body.webhook_id as string);
  });

  it('keeps a given secret to itself and encrypted', async () => {
    const { id, secret } = await bench.register({ secret: 'webhook_secret_key' });
    expect(secret).toBeUndefined();
    const [row] = await app.db.query<{ row: string }>('SELECT w::text AS row FROM webhooks w WHERE id = $1', [
      id.slice('webhook_'.length),
    ]);
    expect(row.row).not.toContain('webhook_secret_key');
    const shown = await app.call('GET', `/api/v1/webhooks/${id}`, { key });
    expect(shown.text).not.toContain('secret');
    await bench.remove(id);
  });

  it.each([
    ['url', { url: 'ftp://example.com/' }],
    ['url', { url: 'http://10.0.0.1/' }],
    ['url', { url: 'http://169.254.169.254/latest' }],
    ['url', { url: 'https://[::1]/' }],
    ['events', { events: [] }],
    ['events', { events: ['task..x'] }],
    ['events', { events: 'task.created' }],
    ['secret', { secret: 'fifteen-letters' }],
    ['secret', { secret: 'whsec_!!!!!!!!!!!!' }],
    ['retry_config.max_retries', { retry_config: { max_retries: 21 } }],
    ['retry_config.retry_delay_seconds', { retry_config: { retry_delay_seconds: 0 } }],
  ])('refuses a bad %s: %j', async (field, body) => {
    const answer = await app.call<{ error: { details: { field: string }[] } }>('POST', '/api/v1/webhooks', {
      key,
      body: { url: receiver.url(), events: ['*'], ...body },
    });
    expect(answer.status).toBe(400);
    expect(answer.body.error.details.map((d) => d.field)).toContain(field);
  });

  it('takes null for what may be left out, and shows the secret that it makes then', async () => {
    const left = {
      secret: null,
      active: null,
      retry_config: null,
      filters: null,
      batch_config: null,
      description: null,
    };
    const body = { url: receiver.url('/null'), events: ['command.failed'], ...left };
    const made = await app.call<{ webhook_id: string; secret: string }>('POST', '/api/v1/webhooks', { key, body });
    expect([made.status, made.body.secret]).toEqual([201, expect.stringMatching(/^whsec_/)]);
    const path = `/api/v1/webhooks/${made.body.webhook_id}`;
    const { secret: _secret, ...rest } = left;
    const patched = await app.call('PATCH', path, { key, body: { url: null, events: null, ...rest } });
    expect([patched.status, patched.body.url, patched.body.events]).toEqual([200, body.url, body.events]);
    const rotated = await app.call('POST', `${path}/rotate-secret`, { key, body: { secret: null } });
    expect([rotated.status, rotated.body.secret]).toEqual([201, expect.stringMatching(/^whsec_/)]);
    for (const bad of [{ retry_config: [] }, { batch_config: [[]] }]) {
      expect((await app.call('PATCH', path, { key, body: bad })).status).toBe(400);
    }
    await bench.remove(made.body.webhook_id);
  });

  it('needs webhook:write, and webhook:read to look', async () => {
    const viewer = await actor(app, { role: 'viewer' });
    const body = { url: receiver.url(), events: ['*'] };
    expect((await app.call('POST', '/api/v1/webhooks', { key: viewer.key, body })).status).toBe(403);
    expect((await app.call('GET', '/api/v1/webhooks', { key: viewer.key })).status).toBe(200);
    expect((await app.call('GET', '/api/v1/webhooks')).status).toBe(401);
  });

  it('lists page by page', async () => {
    const made = [await bench.register(), await bench.register(), await bench.register()];
    const list = async (query: string): Promise<{ ids: string[]; next: string | null }> => {
      const { body } = await app.call<{
        webhooks: { webhook_id: string }[];
        pagination: { next_cursor: string | null; total: number };
      }>('GET', `/api/v1/webhooks?${query}`, { key });
      expect(body.pagination.total).toBe(3);
      return { ids: body.webhooks.map((w) => w.webhook_id), next: body.pagination.next_cursor };
    };
    const first = await list('limit=2');
    const second = await list(`limit=2&cursor=${first.next}`);
    expect([...first.ids, ...second.ids].sort()).toEqual(made.map(({ id }) => id).sort());
    expect((await list('limit=2&offset=1')).ids).toEqual([first.ids[1], second.ids[0]]);
    await bench.remove(...made.map(({ id }) => id));
    expect((await app.call('GET', `/api/v1/webhooks/${made[0].id}`, { key })).status).toBe(404);
  });

  it('changes only the version that was read', async () => {
    const { id } = await bench.register();
    const patch = (body: object, headers = {}) => app.call('PATCH', `/api/v1/webhooks/${id}`, { key, body, headers });
    const changed = await patch({ description: 'first' }, { 'if-match': '"v1"' });
    expect([changed.status, changed.headers.get('etag')]).toEqual([200, '"v2"']);
    expect((await patch({ description: 'second' }, { 'if-match': '"v1"' })).status).toBe(412);
    expect((await patch({ url: 'http://10.1.1.1' })).status).toBe(400);
    expect((await patch({ events: ['*.created'], retry_config: { preset: 'long' } })).body).toMatchObject({
      description: 'first',
      events: ['*.created'],
      retry_config: { preset: 'long', max_retries: 7 },
    });
    await bench.remove(id);
  });
});

describe('a delivery', () => {
  let one: Received;
  let payload: Payload;
  let webhook: Registered;

  beforeAll(async () => {
    webhook = await bench.register({ events: ['ai.*'], secret: 'webhook_secret_key' });
    const name = await bench.publish('ünï¢ode — 名');
    one = await eventually(() => receiver.at(webhook.path)[0]);
    payload = payloadOf(one);
    expect(payload.data.agent_name).toBe(name);
  });
  afterAll(() => bench.remove(webhook.id));

  it('has the fields of both forms of the payload', async () => {
    const [{ occurred_at }] = await app.db.query<{ occurred_at: Date }>(
      'SELECT occurred_at FROM events WHERE id = $1',
      [payload.id.slice('evt_'.length)],
    );
    expect(Object.keys(payload)).toEqual(['id', 'type', 'event_type', 'timestamp', 'source', 'data', 'delivery_info']);
    expect(payload.delivery_info).toMatchObject({ attempt: 1, max_attempts: 4 });
    expect(payload).toMatchObject({ source: 'nexus' });
    expect(payload).toMatchObject({ type: 'ai.agent_registered', event_type: 'ai.agent_registered' });
    expect(payload.timestamp).toBe(occurred_at.toISOString());
  });

  it('has the headers, and both signatures over the exact bytes', () => {
    const hmac = (text: string | Buffer): string =>
      createHmac('sha256', 'webhook_secret_key').update(text).digest('hex');
    expect(one.headers).toMatchObject({
      'content-type': 'application/json',
      'x-nexus-event': 'ai.agent_registered',
      'x-nexus-delivery': expect.stringMatching(/^dlv_[0-9a-f-]{36}\.1$/) as string,
      'x-nexus-attempt': '1',
      'x-nexus-max-attempts': '4',
      'x-nexus-signature': `sha256=${hmac(one.body)}`,
      'webhook-id': payload.id,
    });
    const timestamp = String(one.headers['webhook-timestamp']);
    expect(Math.abs(Number(timestamp) - Date.now() / 1000)).toBeLessThan(60);
    const signed = Buffer.concat([Buffer.from(`${payload.id}.${timestamp}.`), one.body]);
    const standard = Buffer.from(hmac(signed), 'hex').toString('base64');
    expect(one.headers['webhook-signature']).toBe(`v1,${standard}`);
  });

  it.skipIf(!hasPython)('passes the Python checks that users already have (needs python3)', () => {
    const script = `
import hmac, hashlib, sys

def verify_webhook(payload, signature, secret):
    expected = hmac.new(
        secret.encode(),
        payload.encode(),
        hashlib.sha256
    ).hexdigest()

    return hmac.compare_digest(f"sha256={expected}", signature)

def verify_webhook_signature(payload, signature, secret):
    expected_signature = "sha256=" + hmac.new(
        secret.encode(),
        payload.encode(),
        hashlib.sha256
    ).hexdigest()
    return hmac.compare_digest(expected_signature, signature)

payload = sys.stdin.buffer.read().decode()
print(verify_webhook(payload, *sys.argv[1:]), verify_webhook_signature(payload, *sys.argv[1:]))
`;
    const check = (secret: string): string =>
      execFileSync('python3', ['-c', script, String(one.headers['x-nexus-signature']), secret], {
        input: one.body,
        env: { PYTHONUTF8: '1', PATH: process.env.PATH },
      })
        .toString()
        .trim();
    expect(check('webhook_secret_key')).toBe('True True');
    expect(check('another_secret')).toBe('False False');
  });

  it('is logged', async () => {
    const delivery = await bench.finished(webhook.id);
    expect(delivery).toMatchObject({ event_id: payload.id, status: 'delivered', next_attempt_at: null });
    expect(delivery.attempts).toEqual([
      expect.objectContaining({ attempt: 1, status_code: 204, error_code: null, error: null, response_snippet: '' }),
    ]);
    const shown = await app.call('GET', `/api/v1/webhooks/${webhook.id}`, { key });
    expect(shown.body).toMatchObject({ stats: { pending: 0, delivered_24h: 1, failed_24h: 0 }, failing_since: null });
  });
});

describe('what a webhook hears', () => {
  it('is what it asked for, in all forms of asking', async () => {
    const all = await bench.register({ events: ['*'] });
    const behind = await bench.register({ events: ['*.agent_registered'] });
    const other = await bench.register({ events: ['command.*', 'ai.agent_offline'] });
    const paused = await bench.register({ active: false });
    const name = await bench.publish();
    for (const { path } of [all, behind]) {
      await eventually(() => receiver.at(path).find((r) => payloadOf(r).data.agent_name === name));
    }
    // The rows of one event are written together: who has none by now gets none.
    expect(await bench.deliveriesOf(other.id)).toEqual([]);
    expect(await bench.deliveriesOf(paused.id)).toEqual([]);
    const resumed = await app.call('PATCH', `/api/v1/webhooks/${paused.id}`, { key, body: { active: true } });
    expect(resumed.body.status).toBe('active');
    await bench.publish();
    await eventually(() => receiver.at(paused.path).length === 1);
    await bench.remove(all.id, behind.id, other.id, paused.id);
  });

  describe('and the relay', () => {
    /** Once the relay has placed the event of an agent: its row, the webhooks that had a row in the same transaction, and its job. */
    const relayed = async (name: string) => {
      const placed = () =>
        app.db.query<{ id: string; webhooks: string[] }>(
          `SELECT id, ARRAY(SELECT webhook_id::text FROM webhook_deliveries d
             WHERE d.event_id = e.id AND d.created_at = e.relayed_at::timestamptz(3)) AS webhooks
           FROM events e WHERE data->>'agent_name' = $1 AND relayed_at IS NOT NULL`,
          [name],
        );
      const { id, webhooks } = await eventually(async () => (await placed())[0]);
      const job = await app.get(JobQueue).queue('webhooks').getJob(`event.webhooks.deliver-${id}-1`);
      return { job, webhooks: webhooks.map((uuid) => `webhook_${uuid}`) };
    };

    it('cost no job when nobody asked for it, nor when its deliveries were written with its place', async () => {
      const other = await bench.register({ events: ['command.*'] });
      expect(await relayed(await bench.publish())).toEqual({ job: undefined, webhooks: [] });
      const asking = await bench.register();
      expect(await relayed(await bench.publish())).toEqual({ job: undefined, webhooks: [asking.id] });
      await eventually(() => receiver.at(asking.path).length === 1);
      await bench.remove(other.id, asking.id);
    });

    it('leave it to a job when one of those who asked is failing', async () => {
      const failing = await bench.register();
      await app.db.query('UPDATE webhooks SET failing_since = now() WHERE id = $1', [
        failing.id.replace(/^webhook_/, ''),
      ]);
      const healthy = await bench.register();
      const { job, webhooks } = await relayed(await bench.publish());
      expect(job).toBeDefined();
      expect(webhooks).toEqual([]);
      await eventually(() => [failing, healthy].every(({ path }) => receiver.at(path).length === 1));
      await bench.remove(failing.id, healthy.id);
    });

    it('leave nothing waiting for a webhook that is disabled before the relay has committed its deliveries', async () => {
      const { id } = await bench.register();
      const uuid = id.replace(/^webhook_/, '');
      let disabling: Promise<void> | undefined;
      await app.get(Database).transaction(async (tx) => {
        const event = {
          eventId: randomUUID(),
          eventType: 'ai.agent_registered',
          body: Buffer.from('{}'),
          expiresAt: null,
        };
        await addDeliveries(tx, [{ ...event, webhookIds: [uuid] }]);
        let done = false;
        disabling = runDetached(() => app.get(WebhookHealth).disable(uuid, 'rights')).then(() => void (done = true));
        await eventually(async () => {
          const waiting = await tx.query<object[]>(`SELECT 1 FROM pg_locks WHERE NOT granted`);
          return done || waiting.length > 0;
        });
      });
      await disabling;
      const left = await app.db.query<object>(
        `SELECT 1 FROM webhook_deliveries WHERE webhook_id = $1 AND status = 'pending'`,
        [uuid],
      );
      expect(left).toEqual([]);
      await bench.remove(id);
    });

    it('leave it to a job when its deliveries could not be written', async () => {
      const { id, path } = await bench.register();
      const active = app.get(ActiveWebhooks);
      const matching = active.matching.bind(active);
      vi.spyOn(active, 'matching').mockImplementationOnce(async (event) =>
        (await matching(event)).map((one) => ({ ...one, id: 'refused by the database' })),
      );
      const { job, webhooks } = await relayed(await bench.publish());
      expect(job).toBeDefined();
      expect(webhooks).toEqual([]);
      await eventually(() => receiver.at(path).length === 1);
      await bench.remove(id);
    });
  });

  it('is nothing about users for those who may not read users', async () => {
    const developer = await actor(app, { role: 'developer' });
    const call = (events: string[]) =>
      app.call<{ webhook_id: string }>('POST', '/api/v1/webhooks', {
        key: developer.key,
        body: { url: receiver.url('/developer'), events },
      });
    expect((await call(['user.logout'])).status).toBe(403);
    const everything = await call(['*']);
    expect(everything.status).toBe(201);
    const allowed = await bench.register({ events: ['user.*'] });
    const user_id = `user_${randomUUID()}`;
    await app.db.transaction((tx) =>
      app.get(EventBus).publish(tx, UserLoggedOut, user_id, { user_id, session_id: `sess_${randomUUID()}` }),
    );
    await eventually(() => receiver.at(allowed.path).length === 1);
    await bench.publish();
    await eventually(() => receiver.at('/developer').length > 0);
    expect(receiver.at('/developer').map((r) => payloadOf(r).type)).toEqual(['ai.agent_registered']);
    await bench.remove(everything.body.webhook_id, allowed.id);
  });

  it('is described in the catalogue', async () => {
    const { body } = await app.call<{ event_types: { type: string; summary: string; schema: { type: string } }[] }>(
      'GET',
      '/api/v1/webhooks/event-types?limit=100',
      { key },
    );
    expect(body.event_types.map((e) => e.type)).toEqual(app.get(EventCatalogue).events.map((e) => e.type));
    expect(body.event_types.length).toBeGreaterThan(0);
    for (const { summary, schema } of body.event_types) {
      expect(summary).toMatch(/\.$/);
      expect(schema.type).toBe('object');
    }
  });
});

describe('sending again', () => {
  it('repeats id and event, under a new delivery id', async () => {
    const { id, path } = await bench.register();
    await bench.publish();
    const { delivery_id } = await bench.finished(id);
    const answer = await app.call<Delivery>('POST', `/api/v1/webhooks/deliveries/${delivery_id}/redeliver`, { key });
    expect([answer.status, answer.body.status]).toEqual([202, 'pending']);
    const [first, second] = await eventually(() => receiver.at(path).length === 2 && receiver.at(path));
    expect(eventBytes(second)).toBe(eventBytes(first));
    expect(payloadOf(second).delivery_info).toMatchObject({ attempt: 2, max_attempts: 5 });
    expect(second.headers['webhook-id']).toBe(first.headers['webhook-id']);
    expect(second.headers['x-nexus-delivery']).toBe(`${delivery_id}.2`);
    const { attempts } = await bench.finished(id);
    expect(attempts.map((a) => a.attempt)).toEqual([1, 2]);
    await bench.remove(id);
  });

  it('pings on demand', async () => {
    const { id, path } = await bench.register({ events: ['command.failed'] });
    const answer = await app.call<Delivery>('POST', `/api/v1/webhooks/${id}/test`, { key });
    expect([answer.status, answer.body.event_type]).toEqual([202, 'webhook.ping']);
    const ping = await eventually(() => receiver.at(path)[0]);
    expect(payloadOf(ping)).toMatchObject({ type: 'webhook.ping', data: { webhook_id: id } });
    await bench.remove(id);
  });

  it('recovers what failed and what was missed, and nothing twice', async () => {
    const since = new Date().toISOString();
    const witness = await bench.register();
    const missed = await bench.publish();
    await eventually(() => receiver.at(witness.path)[0]);
    await bench.remove(witness.id);
    const { id, path } = await bench.register({ retry_config: { max_retries: 0 } });
    receiver.answer = status(500);
    const failed = await bench.publish();
    expect(await bench.finished(id)).toMatchObject({ status: 'failed' });
    receiver.answer = status(200);
    const delivered = await bench.publish();
    await eventually(async () => (await bench.deliveriesOf(id, '?status=delivered')).length === 1);
    const answer = await app.call('POST', `/api/v1/webhooks/${id}/recover?since=${since}`, { key });
    expect([answer.status, answer.body.status]).toEqual([202, 'queued']);
    const recovery = await eventually(async () => {
      const path = `/api/v1/webhooks/${id}/recoveries/${String(answer.body.recovery_id)}`;
      const { body } = await app.call('GET', path, { key });
      return body.status === 'completed' && body;
    }, 30_000);
    expect(recovery).toMatchObject({ webhook_id: id, since, progress: 100, recovered: 2, error: null });
    await eventually(async () => (await bench.deliveriesOf(id, '?status=delivered')).length === 3);
    const names = receiver.at(path).map((r) => payloadOf(r).data.agent_name);
    expect(names.filter((name) => name === missed)).toHaveLength(1);
    expect(names.filter((name) => name === failed)).toHaveLength(2);
    expect(names.filter((name) => name === delivered)).toHaveLength(1);
    await bench.remove(id);
  });

  it('asks for an active webhook and a time', async () => {
    const { id } = await bench.register({ active: false });
    const post = async (path: string): Promise<number> =>
      (await app.call('POST', `/api/v1/webhooks/${path}`, { key })).status;
    expect(await post(`${id}/test`)).toBe(409);
    expect(await post(`${id}/recover?since=2026-01-01T00:00:00Z`)).toBe(409);
    expect(await post(`${id}/recover`)).toBe(400);
    expect(await post(`${id}/recover?since=2025-W01`)).toBe(400);
    expect(await post(`webhook_${randomUUID()}/test`)).toBe(404);
    expect(await post(`deliveries/dlv_${randomUUID()}/redeliver`)).toBe(404);
    const { id: active } = await bench.register();
    expect(await post(`${active}/recover?since=2999-01-01T00:00:00Z`)).toBe(400);
    await bench.remove(id, active);
  });
});

describe('a new secret', () => {
  it('costs the printed receiver no delivery, whichever of the two secrets it has', async () => {
    const { id, path, secret: old } = await bench.register();
    const rotated = await app.call<Rotated>('POST', `/api/v1/webhooks/${id}/rotate-secret`, { key });
    await bench.publish();
    const delivery = await eventually(() => receiver.at(path)[0]);
    const secrets = [old, rotated.body.secret, 'neither of the two'];
    const answers: number[] = [];
    for (const secret of secrets) answers.push(await askNodeReceiver(secret, delivery));
    expect(answers).toEqual([204, 204, 401]);
    if (hasPython) {
      const checks = secrets.map((secret) => askPythonChecks(secret, delivery));
      expect(checks).toEqual(['True True', 'True True', 'False False']);
    }
    await bench.remove(id);
  });

  it('signs beside the old one until the overlap is over', async () => {
    const { id, path, secret: old } = await bench.register();
    const rotate = (overlap_seconds: number) =>
      app.call<Rotated>('POST', `/api/v1/webhooks/${id}/rotate-secret`, { key, body: { overlap_seconds } });
    const { status: code, body } = await rotate(3600);
    expect(code).toBe(201);
    await bench.publish();
    const both = await eventually(() => receiver.at(path)[0]);
    const nexus = (secret: string): string => `sha256=${createHmac('sha256', secret).update(both.body).digest('hex')}`;
    expect(both.headers['x-nexus-signature']).toBe(nexus(body.secret));
    expect(both.headers['x-nexus-signature-previous']).toBe(nexus(old));
    expect(String(both.headers['webhook-signature']).split(' ')).toHaveLength(2);
    const refused = await rotate(3600);
    expect([refused.status, refused.body.error.details]).toEqual([
      409,
      { previous_secret_until: body.previous_secret_until },
    ]);
    expect((await rotate(0)).status).toBe(201);
    await bench.publish();
    const alone = await eventually(() => receiver.at(path)[1]);
    expect(alone.headers['x-nexus-signature-previous']).toBeUndefined();
    expect(String(alone.headers['webhook-signature']).split(' ')).toHaveLength(1);
    await bench.remove(id);
  });
});

describe('retention', () => {
  it('deletes deliveries that ended longer ago than NEXUS_WEBHOOK_RETENTION_DAYS, and no other', async () => {
    const webhook = await bench.register();
    for (let n = 0; n < 2; n++) await bench.publish();
    const [old, young] = await eventually(async () => {
      const deliveries = await bench.deliveriesOf(webhook.id);
      const done = deliveries.filter((delivery) => delivery.status === 'delivered');
      return done.length === 2 && done.map(({ delivery_id }) => delivery_id);
    });
    for (const [id, days] of [
      [old, 5],
      [young, 3],
    ] as const) {
      await app.db.query(
        `UPDATE webhook_deliveries SET finished_at = now() - make_interval(days => $2) WHERE id = $1`,
        [id.replace(/^\w+_/, ''), days],
      );
    }
    await app.get(Retention).run();
    expect((await bench.deliveriesOf(webhook.id)).map(({ delivery_id }) => delivery_id)).toEqual([young]);
    await bench.remove(webhook.id);
  });
});

describe('many events at once', () => {
  it('are all sent, in rounds of any size; few are relayed and logged by statements whose plans are kept', async () => {
    const { id, path } = await bench.register();
    const names = Array.from({ length: 40 }, () => randomUUID());
    await app.db.transaction(async (tx) => {
      for (const name of names) {
        await app
          .get(EventBus)
          .publish(tx, AgentRegistered, name, { agent_id: name, agent_name: name, agent_type: 'test' });
      }
    });
    const sent = (): unknown[] => receiver.received.filter((one) => one.path === path);
    await eventually(() => Promise.resolve(sent().length === names.length || undefined));
    await bench.publish();
    await eventually(async () => {
      const kept = Array.from({ length: 20 }, () =>
        app.db.query<{ name: string }>('SELECT name FROM pg_prepared_statements, pg_sleep(0.02)'),
      );
      const all = (await Promise.all(kept)).flat().map(({ name }) => name);
      return ['events.relay', 'webhooks.finish'].every((name) => all.includes(name)) || undefined;
    });
    await bench.remove(id);
  });
});
