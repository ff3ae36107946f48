import { execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { afterAll, afterEach, describe, expect, inject, it } from 'vitest';
import { eventually } from '../support/eventually.js';
import {
  freePort,
  NexusProcess,
  type NexusProcessOptions,
  processesNaming,
  ROOT,
  temporaryHome,
} from '../support/nexus-process.js';
import { type Checkout, checkoutFor } from './checkout.js';

const START_MS = 60_000;
const isRoot = process.getuid?.() === 0;
/** Account for what must not run as root; somebody who is not root is such an account. */
const OTHER = isRoot ? 65534 : undefined;

const labs: { path: string; remove(): void }[] = [];
const running: NexusProcess[] = [];

/** A data folder that does not exist yet, as at the first start. */
function newHome(): string {
  const lab = temporaryHome();
  labs.push(lab);
  return path.join(lab.path, 'home');
}

async function launch(options: Partial<NexusProcessOptions> & { home: string }): Promise<NexusProcess> {
  const nexus = NexusProcess.launch({ port: await freePort(), ...options });
  running.push(nexus);
  return nexus;
}

async function start(options: Partial<NexusProcessOptions> & { home: string }): Promise<NexusProcess> {
  const nexus = await NexusProcess.start({ port: await freePort(), ...options });
  running.push(nexus);
  return nexus;
}

/** The one line that a start says before it gives up; nothing of it may be left running. */
async function refusal(options: Partial<NexusProcessOptions> & { home: string }): Promise<string> {
  const nexus = await launch(options);
  expect(await nexus.exited, nexus.output).toBe(1);
  return nexus.output.trim();
}

function login(nexus: NexusProcess, username: string, password: string): Promise<Response> {
  return fetch(`${nexus.url}/api/v1/auth/login`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ username, password }),
  });
}

async function get<T>(nexus: NexusProcess, key: string, target: string): Promise<T> {
  const response = await fetch(`${nexus.url}/api/v1${target}`, { headers: { authorization: `Bearer ${key}` } });
  expect(response.status).toBe(200);
  return (await response.json()) as T;
}

async function agentStatuses(nexus: NexusProcess, key: string): Promise<string[]> {
  return (await get<{ agents: { status: string }[] }>(nexus, key, '/ai/agents')).agents.map((agent) => agent.status);
}

function postmasterOf(home: string): number {
  return Number(readFileSync(path.join(home, 'pg', 'postmaster.pid'), 'utf8').split('\n')[0]);
}

afterEach(async () => {
  for (const nexus of running.splice(0)) {
    await nexus.stop();
    await nexus.exited;
  }
  await eventually(() => labs.every((lab) => processesNaming(lab.path).length === 0));
});

afterAll(() => {
  for (const lab of labs) lab.remove();
});

describe('the first start', () => {
  it(
    'shows addresses, a login, a key and a line to try, all of which work; the second shows no secret',
    async () => {
      const home = newHome();
      const first = await start({ home });
      const shown = (label: string): string => new RegExp(`^  ${label} +(\\S+)$`, 'm').exec(first.output)?.[1] ?? '';
      const key = shown('API key');
      expect(first.output).toContain(`is running on ${first.url}\n`);
      expect((await fetch(shown('API docs'))).status).toBe(200);
      expect((await login(first, shown('User'), shown('Password'))).status).toBe(200);
      const line = /^ +(curl .*)$/m.exec(first.output)?.[1] ?? '';
      const answer = execFileSync('sh', ['-c', `${line} -s -o /dev/null -w '%{http_code}'`], { encoding: 'utf8' });
      expect(answer).toBe('200');
      await eventually(async () => (await agentStatuses(first, key)).includes('active'), 20_000);
      expect(await first.stop()).toBe(0);
      expect(processesNaming(home)).toEqual([]);

      const second = await start({ home });
      expect(second.output).not.toMatch(/nexus_api_|Password/);
      expect((await login(second, 'admin', shown('Password'))).status).toBe(200);
      await get(second, key, '/telemetry/events?limit=1');
    },
    START_MS,
  );

  it(
    'takes the password from .env, does not show it, and runs no agent where none is wanted',
    async () => {
      const home = newHome();
      mkdirSync(home);
      writeFileSync(path.join(home, '.env'), 'NEXUS_ADMIN_PASSWORD="four quiet otters"\nNEXUS_LOCAL_AGENT=false\n');
      const nexus = await start({ home, cwd: home });
      expect(nexus.output).toContain('as set in NEXUS_ADMIN_PASSWORD');
      expect(nexus.output).not.toContain('four quiet otters');
      expect((await login(nexus, 'admin', 'four quiet otters')).status).toBe(200);
      expect(await agentStatuses(nexus, nexus.apiKey as string)).toEqual([]);
      expect(existsSync(path.join(home, 'local-agent'))).toBe(false);
    },
    START_MS,
  );
});

describe('a start that cannot succeed says why in one sentence', () => {
  it('for bad configuration, naming every wrong key and touching nothing', async () => {
    const home = newHome();
    const said = await refusal({ home, env: { PORT: 'http', NEXUS_ROLE: 'king', NEXUS_RATE_LIMIT: 'x' } });
    const [title, ...keys] = said.split('\n');
    expect(title).toBe('Bad configuration:');
    expect(keys.map((key) => key.trim().split(':')[0]).sort()).toEqual(['NEXUS_RATE_LIMIT', 'NEXUS_ROLE', 'PORT']);
    expect(existsSync(home)).toBe(false);
  });

  it.each(['api', 'worker'])('for the role %s without a database of its own', async (role) => {
    const home = newHome();
    expect(await refusal({ home, env: { NEXUS_ROLE: role } })).toMatch(
      new RegExp(`^Bad configuration:\\n  DATABASE_URL: required when NEXUS_ROLE is ${role} .*$`),
    );
    expect(existsSync(home)).toBe(false);
  });

  it('for a .env that cannot be read', async () => {
    const home = newHome();
    mkdirSync(path.join(home, '.env'), { recursive: true });
    expect(await refusal({ home, cwd: home })).toBe(`The file ${path.join(home, '.env')} cannot be read: EISDIR.`);
  });

  it(
    'for a port that is taken, and is not made the less a first start by it',
    async () => {
      const home = newHome();
      const other = net.createServer().listen(0, '127.0.0.1');
      await once(other, 'listening');
      const { port } = other.address() as net.AddressInfo;
      try {
        expect(await refusal({ home, port })).toBe(
          `Port ${port} is in use by another program; set PORT to a free one.`,
        );
        expect(processesNaming(home)).toEqual([]);
        // No data folder for a server that cannot listen.
        expect(existsSync(home)).toBe(false);
      } finally {
        other.close();
      }
      expect((await start({ home, port })).apiKey).toBeDefined();
    },
    START_MS,
  );

  it(
    'for an address that is not this machine’s',
    async () => {
      const said = await refusal({ home: newHome(), env: { NEXUS_HOST: '192.0.2.1', NEXUS_LOCAL_AGENT: 'false' } });
      expect(said).toBe('The address in NEXUS_HOST does not belong to this machine.');
    },
    START_MS,
  );

  it.skipIf(process.platform !== 'linux').each(['/proc/nexus/home', '/sys/nexus/home'])(
    'for the data folder %s, in which nobody can make a folder, with either database',
    async (home) => {
      expect(await refusal({ home })).toMatch(
        new RegExp(`^The data folder ${home} is not writable \\(E[A-Z]+\\): set NEXUS_HOME to a folder .*\\.$`),
      );
      expect(await refusal({ home, env: { DATABASE_URL: inject('postgresUrl') } })).toMatch(
        new RegExp(`^${home}/master-key: cannot be (read|written) \\(E[A-Z]+\\)$`),
      );
    },
    START_MS,
  );

  it(
    'for a data folder that cannot be written',
    async () => {
      const home = newHome();
      mkdirSync(home, { mode: 0o555 });
      const checkout = checkoutFor(OTHER);
      try {
        expect(await refusal({ home, uid: OTHER, ...checkout })).toBe(
          `The data folder ${home} is not writable (EACCES): set NEXUS_HOME to a folder that this account may write.`,
        );
      } finally {
        checkout.remove();
      }
    },
    START_MS,
  );

  it('for a database that cannot be reached', async () => {
    const closed = await freePort();
    const said = await refusal({
      home: newHome(),
      env: { DATABASE_URL: `postgres://u:hunter2@127.0.0.1:${closed}/n` },
    });
    expect(said).toMatch(
      new RegExp(
        `^The database at 127\\.0\\.0\\.1:${closed} cannot be reached: .*ECONNREFUSED.*\\. Check DATABASE_URL\\.$`,
      ),
    );
  });

  it('for a Redis that cannot be reached', async () => {
    const closed = await freePort();
    const said = await refusal({ home: newHome(), env: { REDIS_URL: `redis://:hunter2@127.0.0.1:${closed}` } });
    expect(said).toMatch(
      new RegExp(`^Redis at 127\\.0\\.0\\.1:${closed} cannot be reached: .*ECONNREFUSED.*\\. Check REDIS_URL\\.$`),
    );
  });

  it('for a folder of PostgreSQL without its programs', async () => {
    const folder = newHome();
    mkdirSync(folder);
    expect(await refusal({ home: newHome(), env: { NEXUS_PG_BIN: folder } })).toContain(`NEXUS_PG_BIN names ${folder}`);
  });

  it('for data of another major version', async () => {
    const home = newHome();
    mkdirSync(path.join(home, 'pg'), { recursive: true });
    writeFileSync(path.join(home, 'pg', 'PG_VERSION'), '12\n');
    expect(await refusal({ home })).toMatch(/^.* was made by PostgreSQL 12, but this Nexus runs PostgreSQL 18.*$/);
  });

  it(
    'for a data folder that another Nexus uses',
    async () => {
      const home = newHome();
      const first = await start({ home, env: { NEXUS_LOCAL_AGENT: 'false' } });
      expect(await refusal({ home })).toBe(
        `Nexus is already running with the data folder ${home} (pid ${first.child.pid}).`,
      );
      expect((await fetch(`${first.url}/readyz`)).status).toBe(200);
    },
    START_MS,
  );
});

describe('a stop', () => {
  it(
    'answers the requests in work, then ends the agent and the database',
    async () => {
      const home = newHome();
      const first = await start({ home });
      const key = first.apiKey as string;
      const ids = Array.from({ length: 20 }, () => randomUUID());
      const halves = await Promise.all(ids.map((id) => beginRequest(first, key, id)));
      first.child.kill('SIGTERM');
      await eventually(() => isRefused(first.url));
      expect(await Promise.all(halves.map((half) => half.finish()))).toEqual(ids.map(() => 201));
      expect(await first.exited).toBe(0);
      expect(first.output).not.toContain('"level"');
      expect(processesNaming(home)).toEqual([]);
      expect(existsSync(path.join(home, 'pg', 'postmaster.pid'))).toBe(false);

      const second = await start({ home, env: { NEXUS_LOCAL_AGENT: 'false' } });
      const { events } = await get<{ events: { data: { id: string } }[] }>(
        second,
        key,
        '/telemetry/events?source=half',
      );
      expect(events.map((event) => event.data.id).sort()).toEqual(ids.sort());
    },
    START_MS,
  );

  it(
    'is at once on a second signal, and the database follows',
    async () => {
      const home = newHome();
      const nexus = await start({ home });
      const half = await beginRequest(nexus, nexus.apiKey as string, randomUUID());
      nexus.child.kill('SIGINT');
      await eventually(() => isRefused(nexus.url));
      expect(nexus.alive).toBe(true);
      nexus.child.kill('SIGINT');
      expect(await nexus.exited).toBe(130);
      half.abandon();
      await eventually(() => processesNaming(home).length === 0);
    },
    START_MS,
  );

  const moments: [string, (home: string) => boolean][] = [
    ['while the database is made', (home) => readdirSync(home).some((name) => name.startsWith('pg.tmp-'))],
    ['while the database starts', (home) => existsSync(path.join(home, 'pg', 'postmaster.pid'))],
    ['while the server starts', (home) => existsSync(path.join(home, 'master-key'))],
  ];
  it.each(moments)(
    'is clean %s',
    async (_when, reached) => {
      const home = newHome();
      const first = await launch({ home });
      await eventually(() => existsSync(home) && reached(home), 20_000);
      first.child.kill('SIGTERM');
      expect(await first.exited).toBe(0);
      expect(processesNaming(home)).toEqual([]);
      // Whatever was shown or not, nobody is locked out.
      const shown = /API key +(\S+)/.exec(first.output)?.[1];
      expect(first.output.replace(/^\n {2}Nexus [^]*\n\n$/, '')).toBe('');
      const second = await start({ home });
      await get(second, (shown ?? second.apiKey) as string, '/telemetry/events');
    },
    START_MS,
  );
});

describe('npm start', () => {
  it('passes the signal on to the server and waits for its end', { timeout: START_MS }, async () => {
    const home = newHome();
    const port = await freePort();
    // The build before it is the test command's business.
    const npm = spawn('npm', ['start', '--ignore-scripts'], {
      cwd: ROOT,
      stdio: ['ignore', 'ignore', 'pipe'],
      env: {
        PATH: process.env.PATH,
        HOME: path.dirname(home),
        NEXUS_HOME: home,
        NEXUS_HOST: '127.0.0.1',
        PORT: `${port}`,
      },
    });
    let output = '';
    npm.stderr.setEncoding('utf8').on('data', (text: string) => (output += text));
    await eventually(() => output.includes('is running'), START_MS);
    npm.kill('SIGTERM');
    await once(npm, 'close');
    expect(processesNaming(home)).toEqual([]);
    expect(existsSync(path.join(home, 'pg', 'postmaster.pid'))).toBe(false);
  });
});

describe('after kill -9', () => {
  it(
    'the agent ends by itself and the next start takes the database over',
    async () => {
      const home = newHome();
      const first = await start({ home });
      const key = first.apiKey as string;
      const half = await beginRequest(first, key, randomUUID());
      expect(await half.finish()).toBe(201);
      const database = postmasterOf(home);
      await first.kill();
      await eventually(() => processesNaming(path.join(home, 'local-agent')).length === 0);
      expect(processesNaming(home)).toContain(database);

      const second = await start({ home });
      expect(postmasterOf(home)).toBe(database);
      const { events } = await get<{ events: unknown[] }>(second, key, '/telemetry/events?source=half');
      expect(events).toHaveLength(1);
      expect(await second.stop()).toBe(0);
      expect(processesNaming(home)).toEqual([]);
    },
    START_MS,
  );
});

it('a stop that hangs is cut short and takes the database along', { timeout: START_MS }, async () => {
  const home = newHome();
  const hang = `import { createRequire } from 'node:module';
    const { Pool } = createRequire(process.cwd() + '/')('pg');
    process.once('SIGTERM', () => (Pool.prototype.end = () => new Promise(() => {})));`;
  const nexus = await start({
    home,
    env: {
      NEXUS_LOCAL_AGENT: 'false',
      NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(hang)}`,
    },
  });
  const database = postmasterOf(home);
  expect(await nexus.stop()).toBe(1);
  await eventually(() => !processesNaming(home).includes(database), 10_000);
});

describe('another user', () => {
  let checkout: Checkout | undefined;
  afterAll(() => checkout?.remove());

  it(
    'than root can start it, with the agent',
    async () => {
      const home = newHome();
      mkdirSync(home);
      if (OTHER !== undefined) chownSync(home, OTHER, OTHER);
      checkout = checkoutFor(OTHER);
      const nexus = await start({ home, uid: OTHER, ...checkout });
      const key = nexus.apiKey as string;
      await eventually(async () => (await agentStatuses(nexus, key)).includes('active'), 20_000);
      expect(await nexus.stop()).toBe(0);
      expect(processesNaming(home)).toEqual([]);
    },
    3 * START_MS,
  );

  it(
    'cannot enter the folder around the data, which root and the owner can use all the same',
    async () => {
      const home = newHome();
      const around = path.dirname(home);
      chmodSync(around, 0o700);
      const first = await start({ home });
      const key = first.apiKey as string;
      const pointer = path.join(home, 'pg-location');
      const outside = existsSync(pointer) ? path.dirname(readFileSync(pointer, 'utf8').trim()) : undefined;
      try {
        expect(outside !== undefined).toBe(isRoot);
        if (outside) expect(first.output).toContain(outside);
        expect(await first.stop()).toBe(0);
        const second = await start({ home });
        await get(second, key, '/telemetry/events');
        expect(await second.stop()).toBe(0);
        if (outside) expect(processesNaming(outside)).toEqual([]);
      } finally {
        if (outside) {
          for (const nexus of running) await nexus.stop();
          rmSync(outside, { recursive: true, force: true });
        }
      }
    },
    START_MS,
  );
});

/** A request whose body is only half sent: in work until {@link finish} gives its status. */
async function beginRequest(
  nexus: NexusProcess,
  key: string,
  id: string,
): Promise<{ finish(): Promise<number>; abandon(): void }> {
  const body = JSON.stringify({ event_type: 'test', source: 'half', data: { id } });
  const request = http.request(`${nexus.url}/api/v1/telemetry/events`, {
    method: 'POST',
    agent: false,
    headers: {
      authorization: `Bearer ${key}`,
      'content-type': 'application/json',
      'content-length': body.length,
      expect: '100-continue',
    },
  });
  request.on('error', () => undefined);
  request.flushHeaders();
  // The server has taken the request once it asks for the body.
  await once(request, 'continue');
  request.write(body.slice(0, 10));
  return {
    finish: async () => {
      const answered = once(request, 'response');
      request.end(body.slice(10));
      const [response] = (await answered) as [http.IncomingMessage];
      response.resume();
      return response.statusCode as number;
    },
    abandon: () => request.destroy(),
  };
}

async function isRefused(url: string): Promise<boolean> {
  return fetch(`${url}/healthz`, { headers: { connection: 'close' } }).then(
    () => false,
    () => true,
  );
}
