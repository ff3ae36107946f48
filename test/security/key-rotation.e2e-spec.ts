import { createHmac, randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { BackgroundTasks } from '../../src/platform/background/index.js';
import { SecretBox } from '../../src/platform/crypto/index.js';
import { StartError } from '../../src/platform/database/index.js';
import { ReencryptSecrets } from '../../src/security/master-keys/reencryption.task.js';
import { actor } from '../support/actors.js';
import { type Answer, eventually, startTestApp, type TestApp } from '../support/app.js';
import { FakeAgent, registerAgent } from '../support/fake-agent.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { EventReader } from '../streaming/event-reader.js';
import { Receiver } from '../webhooks/receiver.js';

vi.setConfig({ testTimeout: 180_000 });

interface Reencryption {
  reencryption_id: string;
  status: string;
  reencrypted: number;
  forgotten_keys: string[] | null;
  keys_in_use: string[] | null;
  error: { code: string } | null;
}

const [k0, k1, k2] = ['k0', 'k1', 'k2'].map((id) => ({ id, key: randomBytes(32) }));
let database: TestDatabase;
let receiver: Receiver;
const running = new Set<TestApp>();
beforeAll(async () => {
  database = await createTestDatabase();
  receiver = await Receiver.start();
});
afterAll(async () => {
  await receiver.stop();
  for (const app of running) await app.stop();
  await database.drop();
});

async function start(...keys: { id: string; key: Buffer }[]): Promise<TestApp> {
  const app = await startTestApp({
    DATABASE_URL: database.url,
    NEXUS_MASTER_KEYS: keys.map(({ id, key }) => `${id}:${key.toString('base64')}`).join(),
    NEXUS_EGRESS_ALLOW: '127.0.0.1',
  });
  running.add(app);
  return app;
}

async function stop(app: TestApp): Promise<void> {
  running.delete(app);
  await app.stop();
}

async function refusal(...keys: { id: string; key: Buffer }[]): Promise<string> {
  const refused = await start(...keys).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(StartError);
  return (refused as StartError).message;
}

const reencrypt = (app: TestApp, key: string): Promise<Answer<{ data: Reencryption; error: object }>> =>
  app.call('POST', '/api/v1/system/reencryptions', { key });

async function reencrypted(app: TestApp, key: string): Promise<Reencryption> {
  const { status, body } = await reencrypt(app, key);
  expect(status).toBe(202);
  const path = `/api/v1/system/reencryptions/${body.data.reencryption_id}`;
  return eventually(async () => {
    const { data } = (await app.call<{ data: Reencryption }>('GET', path, { key })).body;
    return data.status === 'completed' && data;
  }, 30_000);
}

/** As if nobody had encrypted with the key for a while. */
async function silence(app: TestApp, keyId: string): Promise<void> {
  await app.db.query(`UPDATE master_key_probe SET encrypting_at = now() - interval '2 minutes' WHERE key_id = $1`, [
    keyId,
  ]);
}

/** Columns with a value that a key has encrypted. */
async function encryptedWith(app: TestApp, keyId: string): Promise<string[]> {
  const columns = await app.db.query<{ name: string; column: string }>(
    `SELECT c.table_name AS name, c.column_name AS column FROM information_schema.columns c
     JOIN information_schema.tables t USING (table_schema, table_name)
     WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND data_type = 'text'`,
  );
  const parts = columns.map(
    ({ name, column }) =>
      `SELECT '${name}.${column}' AS found FROM "${name}" WHERE starts_with("${column}", 'v1.${keyId}.')`,
  );
  return (await app.db.query<{ found: string }>(parts.join(' UNION '))).map(({ found }) => found).sort();
}

const hex = (secret: string, text: Buffer | string): string =>
  `sha256=${createHmac('sha256', secret).update(text).digest('hex')}`;

const SECRETS = [
  'agent_signing_keys.private_key',
  'hooks.previous_secret_box',
  'hooks.secret_box',
  'idempotency_keys.body',
  'stream_tickets.credential',
  'webhooks.previous_secret_box',
  'webhooks.secret_box',
];

describe('a rotation of the master keys', () => {
  it('goes on with every process at work, and what the old key has encrypted is read without it', async () => {
    let one = await start(k1);
    const { key } = await actor(one);
    const made = async <Body>(path: string, body: object = {}, headers = {}): Promise<Body> => {
      const answer = await one.call<Body>('POST', `/api/v1${path}`, { key, body, headers });
      expect(answer.status, answer.text).toBeLessThan(300);
      return answer.body;
    };
    const webhook = await made<{ webhook_id: string; secret: string }>('/webhooks', {
      url: receiver.url('/old'),
      events: ['ai.agent_registered'],
    });
    const { secret } = await made<{ secret: string }>(`/webhooks/${webhook.webhook_id}/rotate-secret`);
    const hook = { name: `hook-${randomUUID().slice(0, 8)}`, scheme: 'nexus' };
    const { hook_id, secret: hookSecret } = await made<{ hook_id: string; secret: string }>('/hooks', hook);
    await made(`/hooks/${hook_id}/rotate-secret`, { overlap_seconds: 3600 });
    const agent = await registerAgent(one, key);
    const before = await FakeAgent.connect(one.url, agent);
    const [{ signing_key }] = before.frames.filter((frame) => frame.type === 'welcome');
    await before.close();
    const repeated = { name: 'repeated', permissions: ['system:read'] };
    const callbacks = await one.call<{ secret: string }>('GET', '/api/v1/commands/callback-secret', { key });
    const once = { 'idempotency-key': randomUUID() };
    const answered = await made('/auth/api-keys', repeated, once);
    const { ticket } = await made<{ ticket: string }>('/stream/tickets');

    let two = await start(k1, k2);
    // Nothing is encrypted with the new key yet, so a process without it may still start.
    await stop(await start(k1));
    await stop(one);
    one = await start(k2, k1);
    await stop(two);
    two = await start(k1, k2);
    expect(await refusal(k1)).toMatch(/^The master keys [^\n]+ the key "k2",[^\n]+$/);

    const early = await reencrypt(one, key);
    expect(early.status).toBe(409);
    expect(early.body.error).toMatchObject({ details: { key_id: 'k2', other_keys: ['k1'] } });
    await stop(two);
    two = await start(k2, k1);
    await silence(one, 'k1');
    expect(await refusal(k2)).toMatch(/ the key "k1",/);
    expect(await refusal({ id: 'k1', key: k0.key }, k2)).toMatch(/ the key "k1",/);

    await made('/commands', { command_type: 'system.ping', target: 'nexus', callback_url: receiver.url('/callback') });
    const [callback] = await eventually(() => receiver.at('/callback').length > 0 && receiver.at('/callback'));
    expect(callback.headers['x-nexus-signature-previous']).toBe(hex(callbacks.body.secret, callback.body));
    expect(String(callback.headers['webhook-signature']).split(' ')).toHaveLength(2);

    expect(await encryptedWith(one, 'k1')).toEqual(['master_key_probe.sealed', ...SECRETS].sort());
    const done = await reencrypted(one, key);
    expect(done).toMatchObject({ forgotten_keys: ['k1'], keys_in_use: ['k2'], error: null });
    expect(done.reencrypted).toBeGreaterThanOrEqual(5);
    expect(await encryptedWith(one, 'k1')).toEqual([]);
    expect(await encryptedWith(one, 'k2')).toEqual(['master_key_probe.sealed', ...SECRETS].sort());

    await stop(one);
    await stop(two);
    one = await start(k2);
    await registerAgent(one, key);
    const [delivery] = await eventually(() => receiver.at('/old').length > 0 && receiver.at('/old'));
    expect(delivery.headers).toMatchObject({
      'x-nexus-signature': hex(secret, delivery.body),
      'x-nexus-signature-previous': hex(webhook.secret, delivery.body),
    });
    const headers = { 'x-nexus-signature': hex(hookSecret, '{}') };
    expect((await one.call('POST', `/api/v1/hooks/${hook.name}`, { body: '{}', headers })).status).toBe(202);
    // It checks the signature with the key of its welcome.
    const after = await FakeAgent.connect(one.url, agent);
    expect((await after.received('welcome')).signing_key).toBe(signing_key);
    const command = await made<{ command_id: string }>('/commands', {
      command_type: 'system.ping',
      target: agent.name,
    });
    expect(await after.command(command.command_id)).toMatchObject({ command_type: 'system.ping' });
    await after.close();
    expect(await made('/auth/api-keys', repeated, once)).toEqual(answered);
    await one.db.query(`UPDATE stream_tickets SET expires_at = now() + interval '1 minute'`);
    const reader = EventReader.open(one.url, null, `?channels=commands.status&ticket=${ticket}`);
    expect(await eventually(() => reader.status > 0 && reader.status)).toBe(200);
    reader.close();
    expect(await refusal(k1)).toMatch(/ the key "k2",/);
    await stop(one);
  });

  it('keeps asking for a key that some value cannot do without', async () => {
    const app = await start(k2);
    const { key } = await actor(app);
    await app.call('POST', '/api/v1/hooks', { key, body: { name: 'unreadable' } });
    await app.db.query(`UPDATE hooks SET secret_box = $1 WHERE name = 'unreadable'`, [
      new SecretBox([k0]).encrypt('secret', 'elsewhere'),
    ]);
    await app.db.query(
      `INSERT INTO master_key_probe (key_id, encrypting_at) VALUES ('k0', now() - interval '2 minutes')`,
    );
    expect(await reencrypted(app, key)).toMatchObject({ forgotten_keys: [], keys_in_use: ['k0', 'k2'] });
    expect(await refusal(k2)).toMatch(/ the key "k0",/);
    await stop(await start(k2, k0));
    await app.db.query(`DELETE FROM hooks WHERE name = 'unreadable'`);
    expect(await reencrypted(app, key)).toMatchObject({ forgotten_keys: ['k0'], keys_in_use: ['k2'] });
    await stop(app);
  });

  it('is not done by a worker with another first key', async () => {
    const app = await start(k2);
    const { key } = await actor(app);
    const { id } = await app.db.transaction((tx) =>
      app.get(BackgroundTasks).start(tx, ReencryptSecrets, { keyId: 'k3' }, { id: 'user_1' }),
    );
    const failed = await eventually(async () => {
      const path = `/api/v1/system/reencryptions/rekey_${id}`;
      const { data } = (await app.call<{ data: Reencryption }>('GET', path, { key })).body;
      return data.status === 'failed' && data;
    });
    expect(failed.error).toMatchObject({
      code: 'RESOURCE_CONFLICT',
      message: expect.stringContaining('"k2"') as string,
    });
    await stop(app);
  });
});
