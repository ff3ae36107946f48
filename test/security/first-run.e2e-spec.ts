import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FirstRun } from '../../src/security/index.js';
import { actor } from '../support/actors.js';
import { startTestApp, type TestApp } from '../support/app.js';

let app: TestApp;
beforeAll(async () => void (app = await startTestApp()));
afterAll(() => app.stop());

describe('the first start', () => {
  it('made one administrator, however many replicas start, and never another one', async () => {
    const again = await Promise.all([1, 2, 3].map(() => app.get(FirstRun).ensureAdmin()));
    expect(again).toEqual([null, null, null]);
    const users = await app.db.query<{ username: string; roles: string[] }>('SELECT username, roles FROM users');
    expect(users).toEqual([{ username: 'admin', roles: ['admin'] }]);
  });

  it('shows secrets that work, once', async () => {
    await app.db.query('TRUNCATE users CASCADE');
    const made = await Promise.all([1, 2, 3].map(() => app.get(FirstRun).ensureAdmin()));
    const [first] = made.filter((result) => result !== null);
    expect(made.filter((result) => result !== null)).toHaveLength(1);
    expect(first.username).toBe('admin');
    expect(first.password?.length).toBeGreaterThanOrEqual(20);
    const { status } = await app.call('GET', '/api/v1/security/audit', { key: first.apiKey });
    expect(status).toBe(200);
  });

  it('gives test actors their role', async () => {
    const viewer = await actor(app, { role: 'viewer' });
    const { status, body } = await app.call('GET', '/api/v1/security/audit', { key: viewer.key });
    expect(status).toBe(403);
    expect(body).toMatchObject({ success: false, error: { code: 'AUTHORIZATION_FAILED' } });
  });
});
