import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { actor, type TestActor } from '../support/actors.js';
import { type Answer, startTestApp, type TestApp } from '../support/app.js';

const ROLES = '/api/v1/security/roles';
interface Failure {
  error: { code: string };
}

let app: TestApp;
let admin: TestActor;
beforeAll(async () => {
  app = await startTestApp();
  admin = await actor(app);
});
afterAll(() => app.stop());

const call = (method: string, path: string, body?: object, key = admin.key): Promise<Answer<Failure>> =>
  app.call(method, path, { key, body });

describe('roles', () => {
  it('that are built in are listed to everyone with all permissions, and cannot be changed', async () => {
    const viewer = await actor(app, { role: 'viewer' });
    const { status, body } = await app.call<{ data: { roles: { name: string }[]; all_permissions: string[] } }>(
      'GET',
      '/api/v1/auth/roles',
      { key: viewer.key },
    );
    expect(status).toBe(200);
    expect(body.data.roles.map(({ name }) => name)).toEqual(['admin', 'developer', 'operator', 'viewer', 'agent']);
    expect(body.data.all_permissions).toContain('telemetry:read');
    expect((await call('PUT', `${ROLES}/viewer`, { scopes: ['*'] })).status).toBe(409);
    expect((await call('DELETE', `${ROLES}/viewer`)).status).toBe(409);
    expect((await call('POST', ROLES, { name: 'viewer', scopes: [] })).status).toBe(409);
    const { body: list } = await app.call('GET', ROLES, { key: admin.key });
    expect(list.roles).toHaveLength(5);
  });

  it('are for security admins', async () => {
    for (const role of ['viewer', 'operator', 'developer']) {
      const { key } = await actor(app, { role });
      expect((await call('GET', ROLES, undefined, key)).status).toBe(403);
      expect((await call('POST', ROLES, { name: 'mine', scopes: ['*'] }, key)).status).toBe(403);
    }
  });

  it('give their rights, lose them at once, and go', async () => {
    const made = await call('POST', ROLES, { name: 'auditor', scopes: ['admin:security', 'read:users'] });
    expect(made.status).toBe(201);
    expect(made.body).toEqual({
      name: 'auditor',
      description: null,
      scopes: ['security:admin', 'user:read'],
      built_in: false,
    });
    expect((await call('POST', ROLES, { name: 'auditor', scopes: [] })).status).toBe(409);
    const auditor = await actor(app, { role: 'auditor' });
    expect((await call('GET', ROLES, undefined, auditor.key)).status).toBe(200);
    expect((await call('DELETE', `${ROLES}/auditor`)).status).toBe(409);
    const changed = await call('PUT', `${ROLES}/auditor`, { description: 'less', scopes: ['user:read'] });
    expect(changed.body).toMatchObject({ description: 'less', scopes: ['user:read'] });
    expect((await call('GET', ROLES, undefined, auditor.key)).status).toBe(403);
    await app.db.query(`UPDATE users SET roles = '{}' WHERE id = $1`, [auditor.userId]);
    const first = await call('DELETE', `${ROLES}/auditor`);
    const second = await call('DELETE', `${ROLES}/auditor`);
    expect(first.status).toBe(200);
    expect(second.body).toEqual(first.body);
    expect((await call('PUT', `${ROLES}/auditor`, { scopes: [] })).status).toBe(404);
    expect((await call('POST', ROLES, { name: 'auditor', scopes: ['user:read'] })).status).toBe(201);
  });

  it('are changed only in the version that was read', async () => {
    await call('POST', ROLES, { name: 'versioned', scopes: ['telemetry:read'] });
    const read = await call('GET', `${ROLES}/versioned`);
    const tag = read.headers.get('etag') ?? '';
    expect(tag).toBe('"v1"');
    const put = (ifMatch: string): Promise<Answer> =>
      app.call('PUT', `${ROLES}/versioned`, {
        key: admin.key,
        body: { scopes: ['task:read'] },
        headers: { 'if-match': ifMatch },
      });
    const changed = await put(tag);
    expect([changed.status, changed.headers.get('etag')]).toEqual([200, '"v2"']);
    expect((await put(tag)).status).toBe(412);
    expect((await call('GET', `${ROLES}/operator`)).body).toMatchObject({ name: 'operator', built_in: true });
    expect((await call('GET', `${ROLES}/nobody`)).status).toBe(404);
  });

  it('never hold more than their maker', async () => {
    await call('POST', ROLES, { name: 'role-maker', scopes: ['security:admin', 'telemetry:read'] });
    const maker = await actor(app, { role: 'role-maker' });
    for (const scope of ['*', 'user:write', '*:read', 'admin:*']) {
      expect([scope, (await call('POST', ROLES, { name: 'big', scopes: [scope] }, maker.key)).status]).toEqual([
        scope,
        403,
      ]);
      expect((await call('PUT', `${ROLES}/role-maker`, { scopes: [scope] }, maker.key)).status).toBe(403);
    }
    expect((await call('POST', ROLES, { name: 'small', scopes: ['telemetry:read'] }, maker.key)).status).toBe(201);
  });

  it('are refused with bad names and scopes', async () => {
    for (const body of [
      { name: 'X', scopes: [] },
      { name: 'a b', scopes: [] },
      { name: 'ok' },
      { name: 'ok', scopes: ['fly:high'] },
      { name: 'ok', scopes: ['task:write@env=x'] },
      { name: 'ok', scopes: 'telemetry:read' },
    ]) {
      expect([body, (await call('POST', ROLES, body)).status]).toEqual([body, 400]);
    }
    for (const name of ['nothing', '%00', '__proto__']) {
      expect([404, 400]).toContain((await call('DELETE', `${ROLES}/${name}`)).status);
    }
  });
});
