import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SecuritySettings } from '../../src/security/security.settings.js';
import { readSettings } from '../../src/settings.js';
import { PasswordHasher } from '../../src/platform/crypto/index.js';
import { StartError } from '../../src/platform/database/index.js';
import { Users } from '../../src/security/accounts/users.js';
import { FirstRun } from '../../src/security/index.js';
import { Credentials } from '../../src/security/keys/credentials.js';
import { actor } from '../support/actors.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { freePort, NexusProcess, temporaryHome } from '../support/nexus-process.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';

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

  it('takes a chosen password only as far as it is a good one', async () => {
    await app.db.query('TRUNCATE users CASCADE');
    const startWith = (password: string): ReturnType<FirstRun['ensureAdmin']> =>
      new FirstRun(
        app.db,
        readSettings({ NEXUS_ADMIN_PASSWORD: password }).get(SecuritySettings),
        app.get(PasswordHasher),
        app.get(Users),
        app.get(Credentials),
      ).ensureAdmin();
    for (const weak of ['twelve-chars', 'password1234567890', 'admin likes otters', 'aaaaaaaaaaaaaaaaaaaa']) {
      const refusal = await startWith(weak).catch((error: unknown) => error);
      expect(refusal).toBeInstanceOf(StartError);
      expect((refusal as StartError).message).toMatch(
        /^The password in NEXUS_ADMIN_PASSWORD .+; choose another one\.$/,
      );
      expect((refusal as StartError).message).not.toContain(weak);
    }
    expect(await app.db.query('SELECT 1 FROM users')).toEqual([]);
    expect(await startWith('three quiet otters paddle')).toMatchObject({ username: 'admin', password: null });
    // With a user there is nothing to take it for.
    expect(await startWith('twelve-chars')).toBeNull();
  });

  it('gives test actors their role', async () => {
    const viewer = await actor(app, { role: 'viewer' });
    const { status, body } = await app.call('GET', '/api/v1/security/audit', { key: viewer.key });
    expect(status).toBe(403);
    expect(body).toMatchObject({ success: false, error: { code: 'AUTHORIZATION_FAILED' } });
  });
});

describe('The master keys', () => {
  const newKey = (id: string): string => `${id}:${randomBytes(32).toString('base64')}`;
  const homes: { path: string; remove(): void }[] = [];
  const processes: NexusProcess[] = [];
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createTestDatabase();
  });
  afterAll(async () => {
    await Promise.all(processes.map((nexus) => nexus.kill()));
    await database.drop();
    for (const home of homes) home.remove();
  });

  const launch = async (keys: string): Promise<NexusProcess> => {
    const home = temporaryHome();
    homes.push(home);
    const env = { DATABASE_URL: database.url, NEXUS_MASTER_KEYS: keys };
    const nexus = NexusProcess.launch({ home: home.path, port: await freePort(), env });
    processes.push(nexus);
    return nexus;
  };
  const starts = async (keys: string): Promise<void> => {
    const nexus = await launch(keys);
    await nexus.says('is running', 60_000);
    expect(await nexus.stop()).toBe(0);
  };
  const refusal = async (keys: string): Promise<string> => {
    const nexus = await launch(keys);
    expect(await nexus.exited).toBe(1);
    // Lines of the log are JSON.
    return nexus.output
      .split('\n')
      .filter((line) => line && !line.startsWith('{'))
      .join('\n');
  };

  it('must be those of the database, also after a rotation', async () => {
    const [first, second] = [newKey('a'), newKey('b')];
    await starts(first);
    for (const other of [second, newKey('a')]) {
      expect(await refusal(other)).toMatch(/^The master keys of this process are not those of the database: [^\n]+$/);
    }
    await starts(`${second},${first}`);
    // What the older key has encrypted is still there.
    expect(await refusal(second)).toMatch(/^The master keys [^\n]+ the key "a",[^\n]+$/);
  });

  it('are refused in one sentence when one is malformed', async () => {
    expect(await refusal('a:short')).toBe('NEXUS_MASTER_KEYS: entry 1 is not id:base64 of 32 bytes');
  });
});
