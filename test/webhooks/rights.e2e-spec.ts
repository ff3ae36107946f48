import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EventBus } from '../../src/platform/events/index.js';
import { JobQueue } from '../../src/platform/jobs/index.js';
import { CheckOwnerRights } from '../../src/platform/ownership/index.js';
import { Credentials } from '../../src/security/keys/credentials.js';
import { UserCreated } from '../../src/security/security.events.js';
import { actor, type TestActor } from '../support/actors.js';
import { type Answer, eventually, type TestApp } from '../support/app.js';
import { WebhookBench } from './harness.js';
import { payloadOf, type Received, status } from './receiver.js';

let bench: WebhookBench;
let app: TestApp;

beforeAll(async () => {
  bench = await WebhookBench.start();
  app = bench.app;
});
afterAll(() => bench?.stop());

interface Shown {
  webhook_id: string;
  active: boolean;
  status: string;
  disabled_reason: string | null;
  stats: { pending: number };
}

/** An account whose own `user.created` is told already, and goes to no webhook that is made from now on. */
async function account(): Promise<TestActor> {
  const witness = await bench.register({ events: ['user.created'] });
  const made = await actor(app);
  const told = (one: Received): boolean => payloadOf(one).data.user_id === `user_${made.userId}`;
  await eventually(() => bench.receiver.at(witness.path).some(told));
  await bench.remove(witness.id);
  return made;
}

async function webhookOf(owner: TestActor, extra: object = {}): Promise<{ id: string; path: string }> {
  const path = `/${randomUUID()}`;
  const body = { url: bench.receiver.url(path), events: ['*'], retry_config: { max_retries: 1 }, ...extra };
  const made = await app.call<Shown>('POST', '/api/v1/webhooks', { key: owner.key, body });
  expect(made.status, made.text).toBe(201);
  return { id: made.body.webhook_id, path };
}

async function shown(id: string): Promise<Shown> {
  return (await app.call<Shown>('GET', `/api/v1/webhooks/${id}`, { key: bench.key })).body;
}

const typesAt = (path: string): string[] => bench.receiver.at(path).map((one) => payloadOf(one).type);

async function userCreated(): Promise<void> {
  const user_id = `user_${randomUUID()}`;
  await app.db.transaction((tx) =>
    app.get(EventBus).publish(tx, UserCreated, user_id, { user_id, username: 'jane', roles: [] }),
  );
}

/** What a change of the account does at the latest within a minute. */
async function sweep(): Promise<void> {
  await app.get(JobQueue).enqueue(CheckOwnerRights, {});
}

describe('a webhook whose owner lost rights', () => {
  it('made with a key is disabled as soon as the key is revoked, tells nothing more, and is taken over by who revives it', async () => {
    const owner = await actor(app);
    const { id, path } = await webhookOf(owner);
    await bench.publish();
    await eventually(() => typesAt(path).includes('ai.agent_registered'));
    expect((await app.call('DELETE', `/api/v1/auth/api-keys/key_${owner.keyId}`, { key: bench.key })).status).toBe(200);
    const disabled = await eventually(async () => {
      const webhook = await shown(id);
      return !webhook.active && webhook;
    });
    expect(disabled).toMatchObject({ status: 'disabled', disabled_reason: 'rights', stats: { pending: 0 } });
    const told = typesAt(path).length;
    const witness = await bench.register({ events: ['webhook.disabled', 'ai.agent_registered'] });
    await bench.publish();
    await eventually(() => typesAt(witness.path).includes('ai.agent_registered'));
    expect(typesAt(path)).toHaveLength(told);
    const body = { active: true };
    expect((await app.call('PATCH', `/api/v1/webhooks/${id}`, { key: bench.key, body })).status).toBe(200);
    await sweep();
    const name = await bench.publish();
    await eventually(() => bench.receiver.at(path).some((one) => payloadOf(one).data.agent_name === name));
    expect(await shown(id)).toMatchObject({ status: 'active' });
    await bench.remove(id, witness.id);
  });

  it('made with a key is disabled when the key has expired, and stays so once the key is forgotten', async () => {
    const [owner, forgotten] = [await actor(app), await actor(app)];
    const [a, b] = [await webhookOf(owner), await webhookOf(forgotten)];
    await app.db.query(`UPDATE credentials SET expires_at = now() - interval '1 second' WHERE id = $1`, [owner.keyId]);
    await app.db.query('DELETE FROM credentials WHERE id = $1', [forgotten.keyId]);
    await sweep();
    for (const { id } of [a, b]) {
      await eventually(async () => !(await shown(id)).active);
      expect(await shown(id)).toMatchObject({ disabled_reason: 'rights' });
    }
    await bench.remove(a.id, b.id);
  });

  it('is disabled when the account is suspended or may have no webhooks any more, and no other is', async () => {
    const [suspended, demoted, kept] = [await actor(app), await actor(app), await actor(app)];
    const [a, b, c] = [await webhookOf(suspended), await webhookOf(demoted), await webhookOf(kept)];
    await app.db.query(`UPDATE users SET status = 'suspended' WHERE id = $1`, [suspended.userId]);
    await app.db.query(`UPDATE users SET roles = '{viewer}' WHERE id = $1`, [demoted.userId]);
    await sweep();
    await eventually(async () => !(await shown(a.id)).active && !(await shown(b.id)).active);
    expect(await shown(c.id)).toMatchObject({ status: 'active' });
    await bench.remove(a.id, b.id, c.id);
  });

  it('tells only what is left to read: what waits is given up, nothing of it is sent again', async () => {
    const owner = await account();
    const { id, path } = await webhookOf(owner, { events: ['user.created', 'ai.agent_registered'] });
    bench.receiver.answer = (response, request) => status(request.path === path ? 500 : 204)(response, request);
    await userCreated();
    await bench.publish();
    await eventually(async () => (await shown(id)).stats.pending === 2 && typesAt(path).length === 2);
    await app.db.query(`UPDATE users SET roles = '{developer}' WHERE id = $1`, [owner.userId]);
    await sweep();
    await eventually(async () => (await shown(id)).stats.pending === 1);
    const [given] = await bench.deliveriesOf(id, '?status=failed');
    expect(given.event_type).toBe('user.created');
    bench.receiver.answer = status(204);
    const again = await app.call('POST', `/api/v1/webhooks/deliveries/${given.delivery_id}/redeliver`, {
      key: bench.key,
    });
    expect(again.status).toBe(409);
    await userCreated();
    const name = await bench.publish();
    await eventually(() => bench.receiver.at(path).some((one) => payloadOf(one).data.agent_name === name));
    expect(typesAt(path).filter((type) => type === 'user.created')).toHaveLength(1);
    await bench.remove(id);
  });

  it('of an event subscription goes by its own scopes', async () => {
    const owner = await account();
    const path = `/${randomUUID()}`;
    const made = await app.call<{ data: { subscription: { webhook_config: { webhook_id: string } } } }>(
      'POST',
      '/api/v1/events/subscriptions',
      {
        key: owner.key,
        body: {
          name: 'All',
          event_patterns: ['user.created', 'ai.*'],
          delivery_method: 'webhook',
          webhook_config: { url: bench.receiver.url(path) },
        },
      },
    );
    const { webhook_id } = made.body.data.subscription.webhook_config;
    await app.db.query(`UPDATE users SET roles = '{viewer}' WHERE id = $1`, [owner.userId]);
    await sweep();
    await eventually(async () => {
      const [{ reader_scopes }] = await app.db.query<{ reader_scopes: string[] }>(
        'SELECT reader_scopes FROM webhooks WHERE id = $1',
        [webhook_id.slice('webhook_'.length)],
      );
      return !reader_scopes.includes('user:read');
    });
    await userCreated();
    await bench.publish();
    await eventually(() => typesAt(path).length > 0);
    expect(typesAt(path)).toEqual(['ai.agent_registered']);
    await app.db.query(`UPDATE users SET roles = '{agent}' WHERE id = $1`, [owner.userId]);
    await sweep();
    await eventually(async () => !(await shown(webhook_id)).active);
  });

  it('gets nothing more from an administrator who revives it than it had', async () => {
    const developer = await actor(app, { role: 'developer' });
    const { id, path } = await webhookOf(developer);
    for (const active of [false, true]) {
      const body = { active };
      expect((await app.call('PATCH', `/api/v1/webhooks/${id}`, { key: bench.key, body })).status).toBe(200);
    }
    await userCreated();
    const name = await bench.publish();
    await eventually(() => bench.receiver.at(path).some((one) => payloadOf(one).data.agent_name === name));
    expect(typesAt(path)).not.toContain('user.created');
    await bench.remove(id);
  });
});

describe('a webhook of a key that may not read everything', () => {
  const patch = (id: string, body: object, key: string): Promise<Answer<Refusal>> =>
    app.call<Refusal>('PATCH', `/api/v1/webhooks/${id}`, { key, body });
  interface Refusal {
    error: { details: { required_scopes: string[]; events: string[] } };
  }

  it('gets of a pattern what the key may read, and no kind by name that it may not', async () => {
    const reader = await actor(app, { scopes: ['webhook:write', 'ai:read'] });
    const { id, path } = await webhookOf(reader);
    const refused = await app.call<Refusal>('POST', '/api/v1/webhooks', {
      key: reader.key,
      body: { url: bench.receiver.url(path), events: ['ai.agent_registered', 'command.failed'] },
    });
    expect(refused.status).toBe(403);
    expect(refused.body.error.details).toMatchObject({ required_scopes: ['command:read'], events: ['command.failed'] });
    expect((await patch(id, { events: ['order.paid'] }, reader.key)).status).toBe(403);
    expect((await patch(id, { events: ['ai.*', 'order.*'] }, reader.key)).status).toBe(200);
    const witness = await bench.register({ events: ['order.paid'] });
    const emitted = { event_type: 'order.paid', data: {} };
    expect((await app.call('POST', '/api/v1/events', { key: bench.key, body: emitted })).status).toBe(201);
    await eventually(() => typesAt(witness.path).includes('order.paid'));
    await bench.publish();
    await eventually(() => typesAt(path).includes('ai.agent_registered'));
    expect(typesAt(path)).toEqual(['ai.agent_registered']);

    // Written again by who may read more, it gets more; revived by who may read less, less.
    expect((await patch(id, { events: ['*'] }, bench.key)).status).toBe(200);
    expect((await app.call('POST', '/api/v1/events', { key: bench.key, body: emitted })).status).toBe(201);
    await eventually(() => typesAt(path).includes('order.paid'));
    expect((await patch(id, { active: true }, reader.key)).status).toBe(200);
    const [row] = await app.db.query('SELECT reader_scopes FROM webhooks WHERE id = $1', [id.slice(8)]);
    expect(row).toEqual({ reader_scopes: ['ai:read'] });
    await bench.remove(id, witness.id);
  });
});

describe('what is queued for a webhook', () => {
  /** A receiver that refuses everything at this path. */
  function failAt(path: string): void {
    bench.receiver.answer = (response, request) => status(request.path === path ? 500 : 204)(response, request);
  }
  const patch = (id: string, body: object, key = bench.key): Promise<{ status: number }> =>
    app.call('PATCH', `/api/v1/webhooks/${id}`, { key, body });

  it('is not sent to another URL, but cancelled, and can be recovered', async () => {
    const { id, path } = await webhookOf(await actor(app), { events: ['ai.agent_registered'], retry_config: {} });
    const since = new Date().toISOString();
    failAt(path);
    const name = await bench.publish();
    await eventually(() => bench.receiver.at(path).length > 0);
    const there = `/${randomUUID()}`;
    expect((await patch(id, { url: bench.receiver.url(there), description: 'moved' })).status).toBe(200);
    expect(await shown(id)).toMatchObject({ stats: { pending: 0 } });
    const [cancelled] = await bench.deliveriesOf(id, '?status=cancelled');
    expect(cancelled).toMatchObject({ event_type: 'ai.agent_registered', next_attempt_at: null });
    expect(cancelled.finished_at).not.toBeNull();
    bench.receiver.answer = status(204);
    const later = await bench.publish();
    const namesAt = (at: string): unknown[] => bench.receiver.at(at).map((one) => payloadOf(one).data.agent_name);
    await eventually(() => namesAt(there).includes(later));
    expect(namesAt(there)).toEqual([later]);
    const recover = await app.call('POST', `/api/v1/webhooks/${id}/recover?since=${since}`, { key: bench.key });
    expect(recover.status).toBe(202);
    await eventually(() => namesAt(there).includes(name));
    await bench.remove(id);
  });

  it('stays when neither URL nor owner change, and is not handed to another owner', async () => {
    const owner = await actor(app);
    const { id, path } = await webhookOf(owner, { events: ['ai.agent_registered'], retry_config: {} });
    failAt(path);
    await bench.publish();
    await eventually(() => bench.receiver.at(path).length > 0);
    const url = bench.receiver.url(path);
    expect((await patch(id, { url, events: ['ai.*'], description: 'same' }, owner.key)).status).toBe(200);
    expect((await patch(id, { description: 'of another' })).status).toBe(200);
    expect(await shown(id)).toMatchObject({ stats: { pending: 1 } });
    expect((await patch(id, { active: true })).status).toBe(200);
    expect(await shown(id)).toMatchObject({ stats: { pending: 0 } });
    expect(await bench.deliveriesOf(id, '?status=cancelled')).toHaveLength(1);
    bench.receiver.answer = status(204);
    await bench.remove(id);
  });

  it('for a batch is cancelled too', async () => {
    const batch_config = { max_size: 100, max_wait_ms: 3_600_000 };
    const { id } = await webhookOf(await actor(app), { events: ['ai.agent_registered'], batch_config });
    await bench.publish();
    const waiting = async (): Promise<number> => {
      const rows = await app.db.query(`SELECT 1 FROM webhook_batch_items WHERE webhook_id = $1`, [id.slice(8)]);
      return rows.length;
    };
    await eventually(async () => (await waiting()) === 1);
    expect((await patch(id, { url: bench.receiver.url(`/${randomUUID()}`) })).status).toBe(200);
    expect(await waiting()).toBe(0);
    const [cancelled] = await bench.deliveriesOf(id, '?status=cancelled');
    expect(cancelled).toMatchObject({ event_type: 'ai.agent_registered' });
    await bench.remove(id);
  });

  it('is given up with the rights that a writer has less, before the answer', async () => {
    const owner = await account();
    const { id, path } = await webhookOf(owner, { events: ['user.created', 'ai.agent_registered'], retry_config: {} });
    failAt(path);
    await userCreated();
    await bench.publish();
    await eventually(async () => (await shown(id)).stats.pending === 2);
    const narrow = await app.db.transaction((tx) =>
      app.get(Credentials).create(tx, {
        kind: 'api',
        name: 'narrow',
        ownerUserId: owner.userId,
        scopes: ['webhook:write', 'ai:read'],
        expiresInDays: null,
      }),
    );
    expect((await patch(id, { active: true }, narrow.key)).status).toBe(200);
    expect(await shown(id)).toMatchObject({ stats: { pending: 1 } });
    const [given] = await bench.deliveriesOf(id, '?status=failed');
    expect(given.event_type).toBe('user.created');
    bench.receiver.answer = status(204);
    await bench.remove(id);
  });
});
