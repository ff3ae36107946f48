import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Gatekeeper } from '../../src/platform/http/index.js';
import { Bus } from '../../src/platform/realtime/index.js';
import { LivePrincipals } from '../../src/security/access/live-principals.js';
import { actor } from '../support/actors.js';
import { startTestApp, type TestApp } from '../support/app.js';

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
