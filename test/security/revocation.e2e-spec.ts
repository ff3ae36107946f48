import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { Gatekeeper } from '../../src/platform/http/index.js';
import { Bus } from '../../src/platform/realtime/index.js';
import { LivePrincipals } from '../../src/security/access/live-principals.js';
import { actor } from '../support/actors.js';
import { eventually, startTestApp, type TestApp } from '../support/app.js';
import { registerAgent } from '../support/fake-agent.js';
import { EventReader } from '../streaming/event-reader.js';
import { StreamReader } from '../streaming/stream-client.js';

vi.setConfig({ testTimeout: 90_000 });

const ME = '/api/v1/auth/me';
const env = { NEXUS_JWT_SECRET: 'the-same-secret-in-both-of-the-processes' };

let here: TestApp;
let there: TestApp;
beforeAll(async () => {
  here = await startTestApp(env);
  there = await startTestApp({ ...env, DATABASE_URL: here.db.url });
});
afterAll(async () => {
  await there.stop();
  await here.stop();
});

const revoke = (app: TestApp, id: string, key: string): Promise<{ status: number }> =>
  app.call('DELETE', `/api/v1/auth/api-keys/key_${id}`, { key });

describe('revoking', () => {
  it('lets no request through on this process, however many are on their way', async () => {
    const admin = await actor(here);
    for (let round = 0; round < 10; round++) {
      const victim = await actor(here);
      let running = true;
      const load = Promise.all(
        Array.from({ length: 8 }, async () => {
          while (running) await here.call('GET', ME, { key: victim.key });
        }),
      );
      expect((await here.call('GET', ME, { key: victim.key })).status).toBe(200);
      expect((await revoke(here, victim.keyId, admin.key)).status).toBe(200);
      const after = await Promise.all([1, 2, 3].map(() => here.call('GET', ME, { key: victim.key })));
      running = false;
      await load;
      expect(after.map(({ status }) => status)).toEqual([401, 401, 401]);
    }
  });

  it('is known to other processes within a second, and their sockets hear of it', async () => {
    const [admin, victim] = [await actor(here), await actor(here)];
    expect((await there.call('GET', ME, { key: victim.key })).status).toBe(200);
    const heard = new Promise<unknown>((resolve) => there.get(Gatekeeper).onRevoked(resolve));
    const start = Date.now();
    await revoke(here, victim.keyId, admin.key);
    while ((await there.call('GET', ME, { key: victim.key })).status === 200) {
      expect(Date.now() - start).toBeLessThan(1000);
    }
    expect(await heard).toEqual({ credentialId: `key_${victim.keyId}` });
  });

  it('is known after a second even where the message was lost', async () => {
    const [admin, victim] = [await actor(here), await actor(here)];
    const principals = there.get(LivePrincipals);
    expect((await there.call('GET', ME, { key: victim.key })).status).toBe(200);
    await here.db.query(`UPDATE credentials SET revoked_at = now() WHERE id = $1`, [victim.keyId]);
    await expect.poll(() => principals.key(victim.key), { timeout: 3000, interval: 20 }).toBeNull();
    expect((await there.call('GET', ME, { key: victim.key })).status).toBe(401);
    expect((await revoke(here, victim.keyId, admin.key)).status).toBe(200);
  });

  it('is not undone by the answer of a look-up that began before it', async () => {
    const victim = await actor(here);
    const principals = here.get(LivePrincipals);
    const early = principals.key(victim.key);
    // The query is on its way while a revocation is announced; its answer may be from before.
    here.get(Bus).publish('security.revoked', { credentialId: `key_${victim.keyId}` });
    expect(principals.key(victim.key)).not.toBe(early);
    here.get(Bus).publish('security.revoked', { credentialId: `key_${victim.keyId}` });
    expect(await early).not.toBeNull();
    await here.db.query(`UPDATE credentials SET revoked_at = now() WHERE id = $1`, [victim.keyId]);
    expect(await principals.key(victim.key)).toBeNull();
  });
});

describe('what stays open', () => {
  /** A socket, server-sent events and the log of a command that waits, all opened on the other process with this key. */
  async function openAll(key: string): Promise<{ closed(): boolean[] }> {
    const admin = await actor(here);
    const agent = await registerAgent(here, admin.key);
    const command = await here.call<{ command_id: string }>('POST', '/api/v1/commands', {
      key: admin.key,
      body: { command_type: 'system.ping', target: agent.id },
    });
    const socket = await StreamReader.open(there.url, key, { channels: ['commands.*'] });
    const events = EventReader.open(there.url, key);
    await events.next('connection_established');
    const log = await fetch(`${there.url}/api/v1/commands/${command.body.command_id}/logs?follow=true`, {
      headers: { authorization: `Bearer ${key}` },
    });
    expect(log.status).toBe(200);
    let logEnded = false;
    void log.text().then(() => (logEnded = true));
    return { closed: () => [socket.closed !== undefined, events.ended, logEnded] };
  }
  const all = (open: { closed(): boolean[] }): boolean => open.closed().every((one) => one);

  it('ends with the time of its key', async () => {
    const { key } = await actor(here, { expiresInDays: 8 / 86_400 });
    const [open, other] = [await openAll(key), await openAll((await actor(here)).key)];
    expect(open.closed()).toEqual([false, false, false]);
    await eventually(() => all(open), 30_000);
    expect(other.closed()).toEqual([false, false, false]);
  });

  it('is checked for its scopes, and what acts by itself too, once the bus is back that was away', async () => {
    const [owner, kept] = [await actor(here), await actor(here)];
    const [open, other] = [await openAll(owner.key), await openAll(kept.key)];
    const { body } = await here.call<{ webhook_id: string }>('POST', '/api/v1/webhooks', {
      key: owner.key,
      body: { url: 'https://example.com/hook', events: ['task.completed'] },
    });
    await here.db.query(`UPDATE users SET roles = '{viewer}' WHERE id = $1`, [owner.userId]);
    const lost = await here.db.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE application_name = 'nexus-bus' AND datname = current_database()`,
    );
    expect(lost).toHaveLength(2);
    await eventually(() => all(open), 30_000);
    expect(other.closed()).toEqual([false, false, false]);
    const shown = () => here.call<{ active: boolean }>('GET', `/api/v1/webhooks/${body.webhook_id}`, { key: kept.key });
    await eventually(async () => !(await shown()).body.active, 30_000);
  });
});

describe('access tokens', () => {
  it('of one process are good on the other one', async () => {
    const password = 'three quiet otters paddle';
    const own = await startTestApp({ ...env, NEXUS_ADMIN_PASSWORD: password });
    const other = await startTestApp({ ...env, DATABASE_URL: own.db.url });
    try {
      const { status, body } = await own.call<{ data: { tokens: { access_token: string } } }>(
        'POST',
        '/api/v1/auth/login',
        { body: { username: 'admin', password } },
      );
      expect(status).toBe(200);
      expect((await other.call('GET', ME, { key: body.data.tokens.access_token })).status).toBe(200);
    } finally {
      await other.stop();
      await own.stop();
    }
  });
});
