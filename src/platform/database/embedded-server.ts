import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Account, POSTGRES_ENV } from './embedded-account.js';
import type { Binaries } from './embedded-binaries.js';
import { isAlive, isPostmasterOf, postgresProcesses, readText, signal, until } from './embedded-process.js';
import { someoneListens } from './embedded-socket.js';
import { StartError } from './embedded-start-error.js';

/** A database that a server can be started on. */
export interface Cluster {
  dir: string;
  account: Account;
  binaries: Binaries;
  /** Takes what the server says. A file, because a pipe would break when Nexus is killed and the server lives on. */
  logFile: string;
  log: (line: string) => void;
  extraSettings: Record<string, string>;
}

/** A running PostgreSQL server, started here or found running. */
export interface Server {
  readonly pid: number;
  readonly port: number;
  /** Resolves, with a reason, when the process has ended. */
  readonly ended: Promise<string>;
  readonly gone: () => boolean;
}

const LOG_LIMIT_BYTES = 10 * 1024 * 1024;
/** A start that these stop may be tried again: the old server's remains go away, and another port can be taken. */
const PASSING = /pre-existing shared memory block|could not create any TCP\/IP sockets|lock file .* already exists/;
const PASSING_MS = 15_000;

/** The server that runs on the data, if there is one: a killed Nexus leaves it behind. Waits until it accepts connections. */
export async function adoptServer(cluster: Cluster): Promise<Server | undefined> {
  const found = readPostmaster(cluster.dir);
  if (!found || !isPostmasterOf(found.pid, cluster.dir)) return undefined;
  const { pid } = found;
  const gone = (): boolean => !isAlive(pid);
  // A smart shutdown would wait for clients to leave; nobody is left to tell them.
  if (found.status === 'stopping') signal(pid, 'SIGINT');
  const port = await whenReady(cluster, { pid, gone });
  return port === undefined ? undefined : { pid, port, ended: watch(pid), gone };
}

/**
 * Starts a server and waits until it accepts connections, crash recovery included.
 * @param port the port to use; without it a free one
 * @param onSpawn is told of each process before it is ready, so that it can be stopped
 * @throws StartError with what the server said
 */
export async function startServer(
  cluster: Cluster,
  port?: number,
  onSpawn?: (server: Server) => void,
): Promise<Server> {
  const deadline = Date.now() + PASSING_MS;
  for (;;) {
    await clearRemains(cluster);
    const said = rotate(cluster.logFile);
    const server = spawnServer(cluster, port ?? (await freePort()));
    onSpawn?.(server);
    if ((await whenReady(cluster, server)) !== undefined) return server;
    const words = said();
    if (!PASSING.test(words) || Date.now() > deadline) {
      throw new StartError(`PostgreSQL did not start: ${words || (await server.ended)} (see ${cluster.logFile})`);
    }
    await delay(100);
  }
}

/** Fast shutdown: open transactions are rolled back, data are written, then the process ends. Waits for the end. */
export async function shutDown(server: Server): Promise<void> {
  // After half a minute an immediate shutdown; the next start then recovers from the log.
  for (const [name, ms] of [
    ['SIGINT', 30_000],
    ['SIGQUIT', 10_000],
    ['SIGKILL', 5000],
  ] as const) {
    if (server.gone()) return;
    signal(server.pid, name);
    if (await until(server.gone, ms)) return;
  }
}

function spawnServer({ dir, account, binaries, logFile, extraSettings }: Cluster, port: number): Server {
  const settings = { ...defaultSettings(), ...extraSettings, cluster_name: titleOf(dir), port: String(port) };
  const args = ['-D', dir, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])];
  const out = openSync(logFile, 'a', 0o600);
  // Detached: a Ctrl-C in the terminal must reach Nexus alone, which stops the server when it has finished with it.
  const child = spawn(path.join(binaries.dir, 'postgres'), args, {
    ...account,
    cwd: '/',
    env: POSTGRES_ENV,
    stdio: ['ignore', out, out],
    detached: true,
  });
  closeSync(out);
  let gone = child.pid === undefined;
  const ended = new Promise<string>((resolve) => {
    const end = (reason: string): void => {
      gone = true;
      resolve(reason);
    };
    child.once('error', (error) => end(error.message));
    child.once('exit', (code, name) => end(name ? `ended by ${name}` : `exit code ${code}`));
  });
  return { pid: child.pid ?? 0, port, ended, gone: () => gone };
}

/** Tells this server's processes from those of any other on the machine. */
function titleOf(dir: string): string {
  return `nexus-${createHash('sha256').update(dir).digest('hex').slice(0, 16)}`;
}

function defaultSettings(): Record<string, string> {
  const memory = Math.min(os.totalmem(), process.constrainedMemory() || Infinity);
  const sharedMegabytes = Math.max(32, Math.min(256, Math.floor(memory / 8 / 2 ** 20)));
  return {
    listen_addresses: '127.0.0.1',
    // In its data folder, where a start from another container finds that this server still runs.
    unix_socket_directories: '.',
    max_connections: '200',
    shared_buffers: `${sharedMegabytes}MB`,
    huge_pages: 'off',
    // Recovery after a kill replays up to this much, at about 130 MB/s on a small machine, and has to end within 15 s.
    max_wal_size: '1GB',
    checkpoint_timeout: '5min',
    wal_compression: 'on',
    jit: 'off',
    timezone: 'UTC',
    log_timezone: 'UTC',
    logging_collector: 'off',
    log_destination: 'stderr',
    // Errors of statements go to whoever sent them; the log keeps what concerns the server itself.
    log_min_messages: 'log',
    log_checkpoints: 'off',
  };
}

/** What a server leaves that was killed: its workers hold the shared memory, without which a new server does not start. */
async function clearRemains({ dir, log }: Cluster): Promise<void> {
  await refuseIfServedElsewhere(dir);
  for (let round = 0; ; round++) {
    const { pids, certain } = postgresProcesses(dir, titleOf(dir));
    if (pids.length === 0) {
      // With nobody at work on the data the file only misleads: its process id may be somebody else's by now.
      if (certain) rmSync(path.join(dir, 'postmaster.pid'), { force: true });
      return;
    }
    if (round === 0) log(`Ending ${pids.length} processes of the database's last run`);
    if (round === 8) {
      throw new StartError(`Processes of an earlier run hold the database in ${dir}: ${pids.join(', ')}.`);
    }
    for (const pid of pids) signal(pid, round < 3 ? 'SIGQUIT' : 'SIGKILL');
    await until(() => postgresProcesses(dir, titleOf(dir)).pids.length === 0, 1000);
  }
}

/** A server that this container cannot see (another one's, whose Nexus was killed) must not get a second beside it. */
async function refuseIfServedElsewhere(dir: string): Promise<void> {
  const found = readPostmaster(dir);
  if (found && isPostmasterOf(found.pid, dir)) return;
  const entries = existsSync(dir) ? readdirSync(dir) : [];
  for (const name of entries.filter((entry) => /^\.s\.PGSQL\.\d+$/.test(entry))) {
    if (await someoneListens(dir, name)) {
      throw new StartError(
        `The database in ${dir} is still running in another container whose Nexus has ended: stop that container.`,
      );
    }
    for (const remains of [name, `${name}.lock`]) rmSync(path.join(dir, remains), { force: true });
  }
}

/** @returns the port once connections are accepted, undefined when the process ends before */
async function whenReady({ dir, log }: Cluster, server: Pick<Server, 'pid' | 'gone'>): Promise<number | undefined> {
  let told = Date.now();
  for (;;) {
    const state = readPostmaster(dir);
    if (state?.pid === server.pid && state.status === 'ready') return state.port;
    if (server.gone()) return undefined;
    if (Date.now() - told > 10_000) {
      told = Date.now();
      log(`Waiting for the database (${state?.status || 'starting'})`);
    }
    await delay(15);
  }
}

/** The server's own note about itself; the format has been stable since PostgreSQL 10. */
export function readPostmaster(dir: string): { pid: number; port: number; status: string } | undefined {
  const lines = readText(path.join(dir, 'postmaster.pid'))?.split('\n') ?? [];
  const pid = Number(lines[0]);
  return pid > 0 ? { pid, port: Number(lines[3]), status: lines[7]?.trim() ?? '' } : undefined;
}

/** Somebody else's child reports no exit. */
async function watch(pid: number): Promise<string> {
  while (isAlive(pid)) await delay(200);
  return 'its process has gone';
}

/** Starts a new log file when the old one is long. @returns a function that gives the end of what is written from now on */
function rotate(logFile: string): () => string {
  let start = statSync(logFile, { throwIfNoEntry: false })?.size ?? 0;
  if (start > LOG_LIMIT_BYTES) {
    renameSync(logFile, `${logFile}.1`);
    start = 0;
  }
  return () =>
    readFileSync(logFile)
      .subarray(start)
      .toString()
      .trim()
      .split('\n')
      .slice(-3)
      .map((line) => line.replace(/^\S+ \S+ UTC \[\d+\] /, ''))
      .join(' ');
}

/**
 * Below the range that systems take for outgoing connections: while the server restarts, a client that keeps connecting
 * could otherwise be given this very port as its own end and keep the server from coming back.
 */
async function freePort(): Promise<number> {
  for (let i = 0; i < 20; i++) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    if (await canListen(port)) return port;
  }
  throw new StartError('No free TCP port was found on 127.0.0.1 for the database.');
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}
