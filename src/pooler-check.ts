import { randomInt } from 'node:crypto';
import pg from 'pg';
import type { Settings } from './platform/config/index.js';
import { connectionsNeeded, isOutOfConnections, StartError } from './platform/database/index.js';

const WAIT_MS = 5000;
/** More than one, as other processes take and give back connections of the pooler meanwhile. */
const TRIES = 3;
const PROBE_LOCK = 1_180_042;

/**
 * Checks that the addresses of the database give what is done with them: DATABASE_URL transactions, DATABASE_DIRECT_URL (or
 * else DATABASE_URL) enough sessions.
 * @throws StartError with one sentence that says what to set
 */
export async function checkPoolers(url: string, settings: Settings): Promise<void> {
  const { databaseDirectUrl: directUrl } = settings;
  const name = directUrl === undefined ? 'DATABASE_URL' : 'DATABASE_DIRECT_URL';
  const clients: pg.Client[] = [];
  const open = async (address: string, setting: string): Promise<pg.Client> => {
    const client = new pg.Client({
      connectionString: address,
      connectionTimeoutMillis: WAIT_MS,
      query_timeout: WAIT_MS,
    });
    client.on('error', () => undefined);
    clients.push(client);
    try {
      await client.connect();
      await client.query('SELECT 1');
      return client;
    } catch (error) {
      // The caller waits for a free one.
      if (isOutOfConnections(error)) throw error;
      throw new StartError(
        `The address in ${setting} gives no connection to the database: ${reasonOf(error)}. Check it, and the size of a pooler's pool.`,
      );
    }
  };
  try {
    const sessions = await open(directUrl ?? url, name);
    if (directUrl !== undefined) await checkTheSame(await open(url, 'DATABASE_URL'), sessions);
    for (let i = 0; i < TRIES; i++) {
      if (!(await keepsItsSession(sessions, await open(directUrl ?? url, name)))) throw sharedSessions(directUrl);
    }
    if (!(await isPooled(sessions))) return;
    const needed = connectionsNeeded(settings)[directUrl === undefined ? 'all' : 'sessions'];
    const more = Array.from({ length: needed - 1 - TRIES }, () => open(directUrl ?? url, name));
    const refused = (await Promise.allSettled(more)).filter(({ status }) => status === 'rejected').length;
    if (refused > 0) {
      throw new StartError(
        `The pooler in ${name} gives this process ${needed - refused} connections, and it needs ${needed}: raise its pool size ` +
          '(PgBouncer: default_pool_size), and set it to the sum of all processes.',
      );
    }
  } finally {
    await Promise.allSettled(clients.map((client) => client.end()));
  }
}

function sharedSessions(directUrl: string | undefined): StartError {
  return new StartError(
    directUrl === undefined
      ? 'DATABASE_URL leads through a pooler in transaction mode: set DATABASE_DIRECT_URL to the address of PostgreSQL itself, or the pooler to session mode.'
      : 'DATABASE_DIRECT_URL leads through a pooler in transaction mode: set it to the address of PostgreSQL itself.',
  );
}

/** A pooler names itself, not the process of PostgreSQL, as the one to send a cancellation to. */
async function isPooled(client: pg.Client): Promise<boolean> {
  const { processID } = client as pg.Client & { processID: number | null };
  return processID !== (await backendOf(client));
}

/** An idle session of a pooler in transaction mode lends its server connection to the next transaction that asks. */
async function keepsItsSession(idle: pg.Client, other: pg.Client): Promise<boolean> {
  const before = await backendOf(idle);
  await begin(other);
  const others = await backendOf(other);
  await other.query('ROLLBACK');
  return others !== before && (await backendOf(idle)) === before;
}

async function backendOf(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  return rows[0].pid;
}

/** A lock that one holds is taken for the other only in the same database of the same server. */
async function checkTheSame(pooled: pg.Client, sessions: pg.Client): Promise<void> {
  const lock = [PROBE_LOCK, randomInt(2 ** 31 - 1)];
  await begin(pooled);
  await pooled.query('SELECT pg_advisory_xact_lock($1, $2)', lock);
  const { rows } = await sessions.query<{ free: boolean }>('SELECT pg_try_advisory_xact_lock($1, $2) AS free', lock);
  await pooled.query('ROLLBACK');
  if (rows[0].free) {
    throw new StartError('DATABASE_URL and DATABASE_DIRECT_URL are different databases: set both to the same one.');
  }
}

async function begin(client: pg.Client): Promise<void> {
  try {
    await client.query('BEGIN');
  } catch (error) {
    throw new StartError(
      `The database does not begin a transaction (${reasonOf(error)}): set the pooler to session or transaction mode.`,
    );
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return reasonOf(error.errors[0]);
  return error instanceof Error ? error.message : String(error);
}
