import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { findBinaries } from './embedded-binaries.js';
import { checkOwner, chooseDataFolder, databasePassword, initialise, makeHome, sweep } from './embedded-folder.js';
import { type HomeLock, lockHome } from './embedded-lock.js';
import { adoptServer, type Cluster, type Server, shutDown, startServer } from './embedded-server.js';
import { StartError } from './embedded-start-error.js';

export { StartError } from './embedded-start-error.js';

/** The embedded database server. While Nexus lives it is started again, on the same port, whenever it ends by itself. */
export interface EmbeddedPostgres {
  /** `postgres://nexus:<password>@127.0.0.1:<port>/nexus`; the role owns its database and is no superuser. */
  readonly url: string;
  /** Process id of the server that runs now. */
  readonly pid: number;
  /** Whether it was found running, left by a Nexus that was killed. */
  readonly adopted: boolean;
  /** Fast shutdown; waits for the end and gives the data folder free. May be called twice. */
  stop(): Promise<void>;
  /** Called, once, when the server has ended without {@link stop} and could not be brought back. */
  onExit(listener: (reason: string) => void): void;
}

export interface EmbeddedPostgresOptions {
  /** Data folder of Nexus (`NEXUS_HOME`). */
  home: string;
  /** Folder with other `postgres` and `initdb` programs than the bundled ones (`NEXUS_PG_BIN`). */
  binDir?: string;
  /** Told, in short lines, what a person should know: where the data are, a wait, a restart. */
  log?: (line: string) => void;
  /** Server settings over the default ones. */
  extraSettings?: Record<string, string>;
  /** Where root keeps what the account of the server cannot reach elsewhere. */
  systemFolder?: string;
}

/** Starts that fail in a row before the server is given up. */
const FAILED_STARTS = 5;
/** Ends within this time make the pause before the next start longer, up to the longest. */
const RESTART_WINDOW_MS = 60_000;
const LONGEST_PAUSE_MS = 1000;

/**
 * Brings up a real PostgreSQL on the data folder: makes the database at the first start, adopts a server that a killed
 * Nexus left running, recovers one that was killed itself. Works as root (which lends it an unprivileged account) and not.
 * @throws StartError when it cannot, in a sentence that says why and what to do
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const log = options.log ?? (() => undefined);
  const systemFolder = options.systemFolder ?? '/var/lib/nexus';
  const home = makeHome(options.home);
  const locks = [await lockHome(home)];
  try {
    const folder = chooseDataFolder(home, systemFolder, log);
    const { dir, account, major } = folder;
    // A copy of this home would name the same outside folder.
    if (path.dirname(dir) !== home) locks.push(await lockHome(path.dirname(dir)));
    sweep(folder);
    const data = major === undefined ? undefined : { dir, major };
    const binaries = findBinaries({ account, configured: options.binDir, data, systemFolder });
    const password = databasePassword(home, folder);
    if (data) checkOwner(folder);
    else await initialise(folder, binaries, password);

    const logFile = path.join(home, 'postgres.log');
    const cluster: Cluster = { dir, account, binaries, logFile, log, extraSettings: options.extraSettings ?? {} };
    const adopted = await adoptServer(cluster);
    const server = adopted ?? (await startServer(cluster));
    try {
      await makeDatabase(server.port, password);
    } catch (error) {
      if (!adopted) await shutDown(server);
      throw new StartError(`The embedded database refuses Nexus: ${(error as Error).message}`);
    }
    const url = `postgres://nexus:${password}@127.0.0.1:${server.port}/nexus`;
    return new Supervisor(cluster, server, url, adopted !== undefined, locks);
  } catch (error) {
    for (const lock of locks) lock.release();
    throw error;
  }
}

class Supervisor implements EmbeddedPostgres {
  private readonly listeners: ((reason: string) => void)[] = [];
  private readonly supervision: Promise<void>;
  private stopping?: Promise<void>;
  private failure?: string;

  constructor(
    private readonly cluster: Cluster,
    private server: Server,
    readonly url: string,
    readonly adopted: boolean,
    private readonly locks: HomeLock[],
  ) {
    this.supervision = this.keepAlive();
  }

  get pid(): number {
    return this.server.pid;
  }

  onExit(listener: (reason: string) => void): void {
    if (this.failure === undefined) this.listeners.push(listener);
    else listener(this.failure);
  }

  stop(): Promise<void> {
    this.stopping ??= this.end();
    return this.stopping;
  }

  private async end(): Promise<void> {
    try {
      await shutDown(this.server);
      // A restart may be under way: what it starts is stopped by `take`.
      await this.supervision;
    } finally {
      for (const lock of this.locks) lock.release();
    }
  }

  private async keepAlive(): Promise<void> {
    const { port } = this.server;
    let ends: number[] = [];
    let failedStarts = 0;
    let reason = await this.server.ended;
    while (!this.stopping) {
      ends = [...ends.filter((at) => at > Date.now() - RESTART_WINDOW_MS), Date.now()];
      if (failedStarts >= FAILED_STARTS) return this.giveUp(reason);
      this.cluster.log(`The database server has ended (${reason}); starting it again`);
      if (ends.length > 1) await delay(Math.min(LONGEST_PAUSE_MS, 100 * 2 ** ends.length));
      try {
        await startServer(this.cluster, port, (server) => this.take(server));
        failedStarts = 0;
        reason = await this.server.ended;
      } catch (error) {
        failedStarts++;
        reason = (error as Error).message;
      }
    }
  }

  private take(server: Server): void {
    this.server = server;
    if (this.stopping) void shutDown(server);
  }

  private giveUp(reason: string): void {
    this.failure = reason;
    for (const listener of this.listeners) listener(reason);
  }
}

/** The role and the database of Nexus, when they are not there yet. */
async function makeDatabase(port: number, password: string): Promise<void> {
  const client = new Client({ host: '127.0.0.1', port, user: 'postgres', password, database: 'postgres' });
  // Without a listener a server that goes away in the middle would end the process; the query rejects anyway.
  client.on('error', () => undefined);
  await client.connect();
  try {
    const { rows } = await client.query<{ role: boolean; database: boolean }>(
      `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nexus') AS role,
              EXISTS (SELECT FROM pg_database WHERE datname = 'nexus') AS database`,
    );
    if (!rows[0]?.role) {
      await client.query(`CREATE ROLE nexus LOGIN CREATEDB PASSWORD ${client.escapeLiteral(password)}`);
    }
    if (!rows[0]?.database) await client.query('CREATE DATABASE nexus OWNER nexus');
  } finally {
    await client.end();
  }
}
