import { execFile } from 'node:child_process';
import { createHmac, randomBytes, randomUUID } from 'node:crypto';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, expect, inject, it } from 'vitest';
import { execute } from '../platform/harness.js';
import { AgentProcess } from '../support/agent-process.js';
import { eventually } from '../support/eventually.js';
import { freePort, NexusProcess, ROOT, temporaryHome } from '../support/nexus-process.js';
import { Receiver, status } from '../webhooks/receiver.js';

const MINUTES = 3 * 60_000;
const lab = temporaryHome();
const home = path.join(lab.path, 'home');
const databases: string[] = [];
const ends: (() => Promise<unknown>)[] = [];

afterAll(async () => {
  for (const end of ends.reverse()) await end();
  for (const name of databases) await execute(inject('postgresUrl'), `DROP DATABASE ${name} WITH (FORCE)`);
  lab.remove();
});

/** An empty database of another server. */
async function newDatabase(): Promise<URL> {
  const name = `test_${randomBytes(6).toString('hex')}`;
  await execute(inject('postgresUrl'), `CREATE DATABASE ${name}`);
  databases.push(name);
  const url = new URL(inject('postgresUrl'));
  url.pathname = `/${name}`;
  return url;
}

const copy = (target: string, env?: Record<string, string>): Promise<string> => run(['db', 'copy', target], env);

/** Runs a command of the operator. @returns what it said */
async function run(args: string[], env: Record<string, string> = {}): Promise<string> {
  const { stderr } = await promisify(execFile)(process.execPath, [path.join(ROOT, 'dist/src/cli.js'), ...args], {
    cwd: lab.path,
    env: { PATH: process.env.PATH, NEXUS_HOME: home, NEXUS_ALLOW_UNSAFE_DATABASE: 'true', ...env },
  });
  return stderr;
}

async function start(env: Record<string, string> = {}): Promise<NexusProcess> {
  const nexus = await NexusProcess.start({
    home,
    port: await freePort(),
    cwd: lab.path,
    env: { NEXUS_ADMIN_PASSWORD: 'correct horse battery', NEXUS_EGRESS_ALLOW: '127.0.0.1', ...env },
  });
  ends.push(() => nexus.stop());
  return nexus;
}

async function call<T>(nexus: NexusProcess, method: string, target: string, key: string, body?: unknown): Promise<T> {
  const response = await fetch(`${nexus.url}/api/v1${target}`, {
    method,
    headers: { 'content-type': 'application/json', ...(key ? { authorization: `Bearer ${key}` } : {}) },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${target}: ${response.status} ${text}`);
  return JSON.parse(text) as T;
}

const login = (nexus: NexusProcess): Promise<unknown> =>
  call(nexus, 'POST', '/auth/login', '', { username: 'admin', password: 'correct horse battery' });

/** Starts an agent and waits until it has reported its results to this server. */
async function agentOn(nexus: NexusProcess, key: string, join?: string): Promise<AgentProcess> {
  const agent = AgentProcess.start({ url: nexus.url, home: path.join(lab.path, 'agent'), name: 'mover', join });
  ends.push(() => agent.end('SIGTERM'));
  const { command_id } = await eventually(() =>
    call<{ command_id: string }>(nexus, 'POST', '/commands', key, { command_type: 'system.ping', target: 'mover' })
      .then((body) => body)
      .catch(() => undefined),
  );
  await eventually(
    async () => (await call<{ status: string }>(nexus, 'GET', `/commands/${command_id}`, key)).status === 'completed',
  );
  return agent;
}

it(
  'moves the embedded data to another PostgreSQL, where everything is there and works',
  async () => {
    const receiver = await Receiver.start();
    ends.push(() => receiver.stop());
    receiver.answer = status(503);
    const old = await start();
    const key = old.apiKey as string;
    const { secret } = await call<{ secret: string }>(old, 'POST', '/webhooks', key, {
      url: receiver.url(),
      events: ['user.login'],
      retry_config: { max_retries: 10, retry_delay_seconds: 1 },
    });
    const { token } = await call<{ token: string }>(old, 'POST', '/ai/agents/join-tokens', key, {});
    await (await agentOn(old, key, token)).end('SIGTERM');
    const source = `src-${randomUUID()}`;
    await call(old, 'POST', '/telemetry/events', key, { event_type: 'move', source, data: { value: 0.1 } });
    await login(old);
    await eventually(() => receiver.received.length > 0);
    expect(await copy((await newDatabase()).href)).toMatch(/Nexus is running: .*\nCopied \d+ rows of \d+ tables\./);

    const entries = (nexus: NexusProcess): Promise<{ entries: { id: string }[] }> =>
      call(nexus, 'GET', '/security/audit?action=POST%20/api/v1/webhooks', key);
    const before = await entries(old);
    await old.stop();
    const target = await newDatabase();
    const { password } = target;
    target.password = '';
    expect(await copy(target.href, { PGPASSWORD: password })).toMatch(/^Copied \d+ rows of \d+ tables\.\n$/);
    await expect(copy(target.href, { PGPASSWORD: password })).rejects.toThrow(/is not empty \(table \w+\): make a new/);

    target.password = password;
    receiver.answer = status(204);
    receiver.received.length = 0;
    const moved = await start({ DATABASE_URL: target.href });
    expect(moved.apiKey).toBeUndefined();
    expect(await entries(moved)).toEqual(before);
    const { events } = await call<{ events: unknown[] }>(moved, 'GET', `/telemetry/events?source=${source}`, key);
    expect(events).toMatchObject([{ event_type: 'move', data: { value: 0.1 } }]);
    // The delivery that was waiting to be tried again, signed with the secret that the master key had sealed.
    const delivery = await eventually(() => receiver.received[0]);
    const signature = createHmac('sha256', secret).update(delivery.body).digest('hex');
    expect(delivery.headers['x-nexus-signature']).toBe(`sha256=${signature}`);
    await login(moved);
    await eventually(() => receiver.received.length > 1);
    await (await agentOn(moved, key)).end('SIGTERM');
  },
  MINUTES,
);

it('says what is wrong in one sentence', async () => {
  const said = async (target: string, env: Record<string, string> = {}): Promise<string> =>
    copy(target, env).then(
      () => 'nothing',
      ({ stderr }: { stderr: string }) => stderr,
    );
  expect(await said('nonsense')).toMatch(/^Usage: npm run nexus -- db copy/);
  expect(await said(`postgres://127.0.0.1:${await freePort()}/x`)).toMatch(
    /^The database at 127\.0\.0\.1:\d+ cannot be reached: .*\. Check the URL after "db copy"\.\n$/,
  );
  expect(await said((await newDatabase()).href, { NEXUS_HOME: path.join(lab.path, 'none') })).toMatch(
    /^There is no database in .*none: set NEXUS_HOME to the data folder\.\n$/,
  );
});

it(
  'deletes everything when told to, and nothing while a server runs',
  async () => {
    const database = (await newDatabase()).href;
    const env = { DATABASE_URL: database };
    const first = await start(env);
    expect(first.apiKey).toBeDefined();
    await expect(run(['db', 'reset', '--yes'], env)).rejects.toThrow(
      'Nexus is running on this database: stop it first.',
    );
    await first.stop();
    await expect(run(['db', 'reset'], env)).rejects.toThrow('db reset --yes');
    expect(await execute(database, 'SELECT username FROM users')).toHaveLength(1);
    expect(await run(['db', 'reset', '--yes'], env)).toBe('All data of this server is deleted.\n');
    expect(await execute(database, `SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace`)).toEqual([]);
    const second = await start(env);
    expect(second.apiKey).toBeDefined();
    expect(second.apiKey).not.toBe(first.apiKey);
  },
  MINUTES,
);
