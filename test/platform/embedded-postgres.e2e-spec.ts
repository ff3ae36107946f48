import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { Client } from 'pg';
import ts from 'typescript';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
  StartError,
  startEmbeddedPostgres,
} from '../../src/platform/database/embedded-postgres.js';

const repository = path.resolve(import.meta.dirname, '../..');
const isRoot = process.getuid?.() === 0;
const NOBODY = 65534;
/** Runs a program as the first process of a namespace of its own, as a container does; all end with it. */
const OWN_PIDS = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc'];
const ownPids = spawnSync(OWN_PIDS[0], [...OWN_PIDS.slice(1), 'true']).status === 0;

let lab: string;
/** A copy of the launcher with its packages, as a clone of the repository in a folder whose mode a test may change. */
let clone: string;
let homes = 0;
const servers: EmbeddedPostgres[] = [];
const helpers: ChildProcess[] = [];

beforeAll(() => {
  lab = mkdtempSync(path.join(os.tmpdir(), 'nexus-embedded-'));
  chmodSync(lab, 0o755);
  clone = path.join(lab, 'owner', 'clone');
  mkdirSync(clone, { recursive: true, mode: 0o755 });
  for (const dir of [path.dirname(clone), clone]) chmodSync(dir, 0o755);
  const source = path.join(repository, 'src/platform/database');
  transpile(source, clone, /^embedded-/);
  transpile(path.join(source, '../files'), path.join(clone, '../files'), /(?<!\.spec)\.ts$/);
  writeFileSync(
    path.join(clone, 'run.js'),
    `import { startEmbeddedPostgres } from './embedded-postgres.js';
     const say = (line) => process.stdout.write(JSON.stringify(line) + '\\n');
     try {
       const server = await startEmbeddedPostgres(JSON.parse(process.argv[2]));
       process.stdin.on('end', () => server.stop().then(() => process.exit(0))).resume();
       say({ url: server.url, pid: server.pid, adopted: server.adopted });
     } catch (error) {
       say({ error: error.message, kind: error.constructor.name });
     }`,
  );
  writeFileSync(
    path.join(clone, 'lock.js'),
    `import { lockHome } from './embedded-lock.js';
     import { once } from 'node:events';
     await once(process.stdin, 'data');
     try { await lockHome(process.argv[2]); process.stdout.write('"held"\\n'); } catch (error) { process.stdout.write(JSON.stringify(error.message) + '\\n'); }
     process.stdin.resume();`,
  );
  for (const name of ['pg', 'embedded-postgres']) installInClone(name);
  // The interpreter may lie where the unprivileged account cannot go.
  cpSync(process.execPath, path.join(lab, 'node'));
});

afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop();
  for (const helper of helpers.splice(0)) {
    if (helper.exitCode !== null || helper.signalCode !== null) continue;
    helper.stdin?.end();
    await once(helper, 'exit');
  }
});

afterAll(() => rmSync(lab, { recursive: true, force: true }));

function transpile(from: string, to: string, files: RegExp): void {
  mkdirSync(to, { recursive: true });
  for (const file of readdirSync(from).filter((name) => files.test(name))) {
    const { outputText } = ts.transpileModule(readFileSync(path.join(from, file), 'utf8'), {
      compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
    });
    writeFileSync(path.join(to, file.replace(/\.ts$/, '.js')), outputText);
  }
  writeFileSync(path.join(to, 'package.json'), '{"type":"module"}');
}

/** Copies a package and what it needs into the clone. */
function installInClone(name: string): void {
  const from = path.join(repository, 'node_modules', name);
  const to = path.join(clone, 'node_modules', name);
  if (existsSync(to) || !existsSync(from)) return;
  cpSync(from, to, { recursive: true, verbatimSymlinks: true });
  const manifest = JSON.parse(readFileSync(path.join(from, 'package.json'), 'utf8')) as Record<string, object>;
  for (const needed of Object.keys({ ...manifest['dependencies'], ...manifest['optionalDependencies'] })) {
    installInClone(needed);
  }
}

const newHome = (): string => path.join(lab, `home-${++homes}`);

const systemFolder = (): string => path.join(lab, 'system');

async function start(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({ systemFolder: systemFolder(), ...options });
  servers.push(server);
  return server;
}

interface Answer {
  url: string;
  pid: number;
  adopted: boolean;
  error?: string;
  kind?: string;
}

/** Another Nexus: a process of its own that starts the embedded server. */
function launch(
  options: EmbeddedPostgresOptions,
  script = 'run.js',
  uid?: number,
  wrapper: string[] = [],
): { helper: ChildProcess; answer: Promise<Answer> } {
  const argument = script === 'run.js' ? JSON.stringify({ systemFolder: systemFolder(), ...options }) : options.home;
  const [program, ...args] = [...wrapper, path.join(lab, 'node'), path.join(clone, script), argument];
  const helper = spawn(program, args, {
    ...(uid === undefined ? {} : { uid, gid: uid }),
    cwd: '/',
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  helpers.push(helper);
  const answer = once(createInterface({ input: helper.stdout }), 'line').then(
    ([line]) => JSON.parse(line as string) as Answer,
  );
  return { helper, answer };
}

/** The process of Nexus in a container that `pid` has made. */
function nodeUnder(pid: number): number {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean);
  for (const child of children.map(Number)) {
    if (readFileSync(`/proc/${child}/comm`, 'utf8').trim() === 'node') return child;
    const below = nodeUnder(child);
    if (below > 0) return below;
  }
  return 0;
}

async function kill(helper: ChildProcess): Promise<void> {
  const gone = once(helper, 'exit');
  helper.kill('SIGKILL');
  await gone;
}

async function query<Row extends object>(url: string, ...statements: string[]): Promise<Row[]> {
  const client = new Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    let rows: Row[] = [];
    for (const statement of statements) rows = (await client.query<Row>(statement)).rows;
    return rows;
  } finally {
    await client.end().catch(() => undefined);
  }
}

const mode = (file: string): number => statSync(file).mode & 0o777;

describe('a start', () => {
  it('makes a durable database at first and finds its data again', async () => {
    const home = newHome();
    const first = await start({ home });
    const settings = await query(
      first.url,
      'CREATE TABLE kept (n int)',
      'INSERT INTO kept VALUES (7)',
      `SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'data_checksums',
         'jit', 'max_connections', 'TimeZone', 'listen_addresses', 'server_encoding') ORDER BY name`,
    );
    expect(Object.fromEntries(settings.map((row) => Object.values(row) as [string, string]))).toEqual({
      TimeZone: 'UTC',
      data_checksums: 'on',
      fsync: 'on',
      full_page_writes: 'on',
      jit: 'off',
      listen_addresses: '127.0.0.1',
      max_connections: '200',
      server_encoding: 'UTF8',
      synchronous_commit: 'on',
    });
    expect(await query(first.url, 'SELECT rolsuper FROM pg_roles WHERE rolname = current_user')).toEqual([
      { rolsuper: false },
    ]);
    expect(mode(path.join(home, 'pg-password'))).toBe(0o600);
    await first.stop();
    await first.stop();
    expect(() => process.kill(first.pid, 0)).toThrow('ESRCH');

    const second = await start({ home });
    expect(second.adopted).toBe(false);
    expect(await query(second.url, 'SELECT n FROM kept')).toEqual([{ n: 7 }]);
    await expect(query(second.url.replace(/:[^:@]+@/, ':wrong@'), 'SELECT 1')).rejects.toThrow(/password/);
  });

  it('keeps the secrets of Nexus out of the environment of the server', async () => {
    vi.stubEnv('NEXUS_ADMIN_PASSWORD', 'never-to-be-seen');
    const { pid } = await start({ home: newHome() }).finally(() => vi.unstubAllEnvs());
    const environment = process.platform === 'linux' ? readFileSync(`/proc/${pid}/environ`, 'utf8') : '';
    expect(environment).not.toContain('never-to-be-seen');
  });

  it('works as an ordinary user', async () => {
    const home = newHome();
    mkdirSync(home);
    if (isRoot) chownSync(home, NOBODY, NOBODY);
    const { answer } = launch({ home }, 'run.js', isRoot ? NOBODY : undefined);
    const { url, error } = await answer;
    expect(error).toBeUndefined();
    expect(await query(url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    expect(statSync(path.join(home, 'pg')).uid).toBe(isRoot ? NOBODY : process.getuid?.());
  });

  it('works in a clone that only its owner may enter', async () => {
    const owner = path.dirname(clone);
    const home = path.join(clone, '.nexus');
    chmodSync(owner, 0o700);
    try {
      const first = launch({ home });
      const { url, error } = await first.answer;
      expect(error).toBeUndefined();
      await query(url, 'CREATE TABLE kept AS SELECT 7 AS n');
      first.helper.stdin?.end();
      await once(first.helper, 'exit');

      const { url: again } = await launch({ home }).answer;
      expect(await query(again, 'SELECT n FROM kept')).toEqual([{ n: 7 }]);
      expect(mode(owner)).toBe(0o700);
      // Root's helper account cannot get there, so that root keeps the data outside; anybody else keeps them in place.
      const dir = isRoot ? readFileSync(path.join(home, 'pg-location'), 'utf8').trim() : path.join(home, 'pg');
      expect(dir.startsWith(isRoot ? systemFolder() : home)).toBe(true);
      expect(mode(dir)).toBe(0o700);
    } finally {
      for (const helper of helpers.splice(0)) {
        helper.stdin?.end();
        if (helper.exitCode === null) await once(helper, 'exit');
      }
      chmodSync(owner, 0o755);
    }
  });
});

describe('after a kill', () => {
  it('of Nexus, the next start adopts the running server', async () => {
    const home = newHome();
    const { helper, answer } = launch({ home });
    const { url, pid } = await answer;
    await query(url, 'CREATE TABLE kept AS SELECT 7 AS n');
    await kill(helper);

    const next = await start({ home });
    expect(next).toMatchObject({ adopted: true, pid, url });
    expect(await query(next.url, 'SELECT n FROM kept')).toEqual([{ n: 7 }]);

    process.kill(pid, 'SIGKILL');
    await vi.waitFor(() => query(url, 'SELECT n FROM kept'), 15_000);
    expect(next.pid).not.toBe(pid);
  });

  it('of Nexus, the next start can stop the adopted server', async () => {
    const home = newHome();
    const killed = launch({ home });
    const { pid, url } = await killed.answer;
    await kill(killed.helper);
    const next = launch({ home });
    expect(await next.answer).toMatchObject({ adopted: true, pid });
    next.helper.stdin?.end();
    expect(await once(next.helper, 'exit')).toEqual([0, null]);
    await expect(query(url, 'SELECT 1')).rejects.toThrow('ECONNREFUSED');
  });

  it('of the database, it is back at the same address with every committed row', async () => {
    const server = await start({ home: newHome() });
    const { pid, url } = server;
    await query(url, 'CREATE TABLE kept AS SELECT 7 AS n');
    // Busy and deaf to the death of its server: it holds the shared memory until it is ended.
    const busy = query(url, 'SELECT count(*) FROM generate_series(1, 20000000000)').catch(
      (error: Error) => error.message,
    );
    await vi.waitFor(async () =>
      expect(
        await query(
          url,
          `SELECT FROM pg_stat_activity WHERE query LIKE '%generate_series%' AND pid <> pg_backend_pid()`,
        ),
      ).toHaveLength(1),
    );
    process.kill(pid, 'SIGKILL');
    expect(await busy).toMatch(/terminat|closed|reset/i);
    expect(await vi.waitFor(() => query(url, 'SELECT n FROM kept'), 15_000)).toEqual([{ n: 7 }]);
    expect(server.pid).not.toBe(pid);
    expect(server.url).toBe(url);
  });

  it('of the first start in the middle, nothing half-made is trusted', async () => {
    const home = newHome();
    const { helper, answer } = launch({ home });
    answer.catch(() => undefined);
    await vi.waitUntil(() => existsSync(home) && readdirSync(home).some((n) => n.startsWith('pg.tmp-')), {
      timeout: 10_000,
      interval: 2,
    });
    await kill(helper);
    expect(existsSync(path.join(home, 'pg'))).toBe(false);
    const server = await start({ home });
    expect(await query(server.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  it('gives up, and says so, when the server cannot be brought back', async () => {
    const home = newHome();
    const server = await start({ home });
    const told = new Promise<string>((resolve) => server.onExit(resolve));
    renameSync(path.join(home, 'pg'), path.join(home, 'elsewhere'));
    process.kill(server.pid, 'SIGKILL');
    expect(await told).toMatch(/PostgreSQL did not start: .*could not access directory/);
    const late = await new Promise<string>((resolve) => server.onExit(resolve));
    expect(late).toBe(await told);
  });

  it('of the database, a stop in the middle of its return leaves no server behind', async () => {
    const home = newHome();
    const server = await start({ home });
    const { pid } = server;
    process.kill(pid, 'SIGKILL');
    await vi.waitUntil(() => server.pid !== pid, { timeout: 15_000, interval: 1 });
    await server.stop();
    expect(() => process.kill(server.pid, 0)).toThrow('ESRCH');
    expect(await start({ home })).toMatchObject({ adopted: false });
  });
});

describe('one data folder', () => {
  it('serves one Nexus at a time', async () => {
    const home = newHome();
    await start({ home });
    const { answer } = launch({ home });
    expect(await answer).toEqual({
      kind: 'HomeInUseError',
      error: `Nexus is already running with the data folder ${home} (pid ${process.pid}).`,
    });
  });

  it('goes to exactly one of many that start at once after a crash', async () => {
    const home = newHome();
    mkdirSync(home);
    // A process id that lives, but is another process than the one that made the claim.
    writeFileSync(path.join(home, 'nexus.lock.3'), `${process.pid} another-boot/1\n`);
    const starts = Array.from({ length: 6 }, () => launch({ home }, 'lock.js'));
    for (const { helper } of starts) helper.stdin?.write('go\n');
    const answers = (await Promise.all(starts.map(({ answer }) => answer))) as unknown as string[];
    expect(answers.filter((answer) => answer === 'held')).toHaveLength(1);
    expect(answers.filter((answer) => answer.startsWith('Nexus is already running'))).toHaveLength(5);
  });
});

describe.skipIf(!ownPids)('one data folder in several containers (needs the right to unshare)', () => {
  it('serves one Nexus at a time, and the next one after a kill', async () => {
    const home = newHome();
    const { helper, answer } = launch({ home }, 'run.js', undefined, OWN_PIDS);
    const { error, url } = await answer;
    expect(error).toBeUndefined();
    await query(url, 'CREATE TABLE kept AS SELECT 7 AS n');
    const refused = {
      kind: 'HomeInUseError',
      error: expect.stringMatching(/already running .* \(in another container\)/) as string,
    };
    expect(await launch({ home }, 'run.js', undefined, OWN_PIDS).answer).toEqual(refused);
    expect(await launch({ home }).answer).toEqual(refused);

    const killedAt = Date.now();
    await kill(helper);
    const next = await launch({ home }, 'run.js', undefined, OWN_PIDS).answer;
    expect(next.error).toBeUndefined();
    expect(Date.now() - killedAt).toBeLessThan(15_000);
    expect(await query(next.url, 'SELECT n FROM kept')).toEqual([{ n: 7 }]);
  });

  it('does not start a second database beside one whose Nexus was killed', async () => {
    const home = newHome();
    // The shell is the first process of the container, which goes on when the one of Nexus has gone.
    const { helper, answer } = launch({ home }, 'run.js', undefined, [...OWN_PIDS, 'sh', '-c', '"$@"; sleep 60', 'sh']);
    await answer;
    process.kill(nodeUnder(helper.pid as number), 'SIGKILL');
    const gone = Date.now() + 10_000;
    let said: string | undefined;
    do said = (await launch({ home }).answer).error;
    while (said?.includes('already running') && Date.now() < gone);
    expect(said).toMatch(/^The database in .* is still running in another container/);
    await kill(helper);
    await vi.waitFor(async () => expect((await launch({ home }).answer).error).toBeUndefined(), 15_000);
  });
});

describe('a start that cannot succeed says why', () => {
  const refusal = async (options: EmbeddedPostgresOptions): Promise<string> => {
    const error: unknown = await start(options).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(StartError);
    return (error as Error).message;
  };

  it('for a folder that cannot be written', async () => {
    const file = path.join(lab, 'file');
    writeFileSync(file, '');
    const home = path.join(file, 'home');
    expect(await refusal({ home })).toBe(
      `The data folder ${home} is not writable (ENOTDIR): set NEXUS_HOME to a folder that this account may write.`,
    );
    const closed = newHome();
    mkdirSync(closed, { mode: 0o555 });
    const { answer } = launch({ home: closed }, 'run.js', isRoot ? NOBODY : undefined);
    expect(await answer).toMatchObject({
      kind: 'StartError',
      error: expect.stringContaining('is not writable (EACCES)') as string,
    });
  });

  it('for data of another major version', async () => {
    const home = newHome();
    mkdirSync(path.join(home, 'pg'), { recursive: true });
    writeFileSync(path.join(home, 'pg', 'PG_VERSION'), '12\n');
    expect(await refusal({ home })).toMatch(
      /was made by PostgreSQL 12, but this Nexus runs PostgreSQL 18.*: set NEXUS_PG_BIN/,
    );
    await expect(start({ home: newHome() })).resolves.toMatchObject({ adopted: false });
  });

  it('for a folder that holds something else', async () => {
    const home = newHome();
    mkdirSync(path.join(home, 'pg', 'photos'), { recursive: true });
    expect(await refusal({ home })).toContain('holds files but no database');
  });

  it('for a configured folder without programs', async () => {
    expect(await refusal({ home: newHome(), binDir: lab })).toContain(`NEXUS_PG_BIN names ${lab}`);
  });

  it('for data whose password is lost', async () => {
    const home = newHome();
    await (await start({ home })).stop();
    rmSync(path.join(home, 'pg-password'));
    expect(await refusal({ home })).toContain('pg-password of the database');
  });

  it('for a folder out of reach of the account of the server, with nowhere else to go', async () => {
    const closed = newHome();
    mkdirSync(closed, { mode: 0o700 });
    const outcome = await start({ home: path.join(closed, 'home'), systemFolder: path.join(closed, 'system') }).catch(
      (e: Error) => e.message,
    );
    // Only root has another account run the server.
    if (isRoot) expect(outcome).toContain(`cannot enter ${closed}`);
    else expect(outcome).toMatchObject({ adopted: false });
  });
});
