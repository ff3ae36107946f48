import { once } from 'node:events';
import { createServer } from 'node:net';
import { Redis } from 'ioredis';
import pg from 'pg';
import type { Settings } from './platform/config/index.js';
import { connectionsNeeded, isOutOfConnections, StartError } from './platform/database/index.js';

const OLDEST_MAJOR = 15;
const MAX_CLOCK_SKEW_MS = 2000;
const CONNECT_MS = 5000;
/** Connections that this role may still open: as far as the server, the database and the role allow, this one left out. */
const FREE_CONNECTIONS = `
  SELECT least(
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
      - coalesce(current_setting('reserved_connections', true)::int, 0)
      - (SELECT sum(numbackends) FROM pg_stat_database WHERE datid <> 0) + 1,
    (SELECT datconnlimit - numbackends + 1 FROM pg_database JOIN pg_stat_database s ON s.datid = pg_database.oid
     WHERE pg_database.datname = current_database() AND datconnlimit >= 0),
    (SELECT rolconnlimit - (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user) + 1 FROM pg_roles
     WHERE rolname = current_user AND rolconnlimit >= 0))::int`;

interface Answer {
  version: number;
  now: Date;
  /** Names of settings that are off for this role in this database. */
  unsafe: string[] | null;
  free: number;
  standby: boolean;
}

/**
 * Checks that the database can be trusted with the data before anything is built on it.
 * @param setting what to check when it cannot be reached
 * @returns warnings for the log
 * @throws StartError with one sentence: unreachable, wrong major, a standby, clocks apart, not durable
 */
export async function checkDatabase(url: string, settings: Settings, setting = 'DATABASE_URL'): Promise<string[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: CONNECT_MS });
  // A server that goes away in the middle also rejects the query that waits for it.
  client.on('error', () => undefined);
  try {
    await client.connect();
  } catch (error) {
    // The caller waits for a free one.
    if (isOutOfConnections(error)) throw error;
    throw new StartError(
      `The database at ${addressOf(url, 5432)} cannot be reached: ${reasonOf(error)}. Check ${setting}.`,
    );
  }
  try {
    const sentAt = Date.now();
    const { rows } = await client.query<Answer>(`
      SELECT (${FREE_CONNECTIONS}) AS free, pg_is_in_recovery() AS standby, current_setting('server_version_num')::int AS version, clock_timestamp() AS now,
        (SELECT array_agg(name ORDER BY name) FROM pg_settings
         WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off') AS unsafe`);
    const { version, now, unsafe, free, standby } = rows[0];
    const major = Math.floor(version / 10_000);
    if (major < OLDEST_MAJOR) {
      throw new StartError(`The database is PostgreSQL ${major}; Nexus needs ${OLDEST_MAJOR} or newer.`);
    }
    if (standby) {
      throw new StartError('The database is a standby, which takes no writes; set DATABASE_URL to the primary server.');
    }
    const answeredAt = Date.now();
    // The database read its clock at some moment in between.
    const skew = Math.max(sentAt - now.getTime(), now.getTime() - answeredAt, 0);
    if (skew > MAX_CLOCK_SKEW_MS) {
      throw new StartError(
        `The clocks of this machine and of the database are ${Math.round(skew / 1000)} s apart; set them right (2 s at most).`,
      );
    }
    const warnings = (unsafe ?? []).map(
      (name) => `${name} is off on the database: accepted data can be lost in a power failure`,
    );
    if (warnings.length > 0 && !settings.allowUnsafeDatabase) {
      throw new StartError(
        `${warnings[0]}; set it to on for the server, the database and the role, or allow the loss with NEXUS_ALLOW_UNSAFE_DATABASE=true.`,
      );
    }
    const needed = connectionsNeeded(settings).all;
    if (free < needed) {
      warnings.push(
        `The database has ${free} free connections for this role and this process may open ${needed}: ` +
          'raise max_connections or the limit of the role or the database, or lower NEXUS_DB_POOL',
      );
    }
    if (!settings.embedded && settings.redisUrl === undefined) {
      warnings.push('REDIS_URL is not set: queues and rate limits run on PostgreSQL and in memory');
    }
    return warnings;
  } finally {
    await client.end();
  }
}

/**
 * Checks that the server will be able to listen, before anything is started that would have to be ended again.
 * @throws what listening throws
 */
export async function checkAddress({ port, host }: Settings): Promise<void> {
  const probe = createServer().listen(port, host);
  await once(probe, 'listening');
  probe.close();
  await once(probe, 'close');
}

/**
 * @returns warnings for the log
 * @throws StartError with one sentence when Redis does not answer
 */
export async function checkRedis(url: string): Promise<string[]> {
  const redis = new Redis(url, { lazyConnect: true, connectTimeout: CONNECT_MS, retryStrategy: () => null });
  let reason: unknown;
  // What `connect` rejects with says only that there is no connection.
  redis.on('error', (error) => (reason = error));
  try {
    await redis.connect();
    const policy = /^maxmemory_policy:(\S+)/m.exec(await redis.info('memory'))?.[1];
    if (policy === undefined || policy === 'noeviction') return [];
    return [`maxmemory-policy of Redis is ${policy}: it may drop queued jobs when it is full; set it to noeviction`];
  } catch (error) {
    throw new StartError(
      `Redis at ${addressOf(url, 6379)} cannot be reached: ${reasonOf(reason ?? error)}. Check REDIS_URL.`,
    );
  } finally {
    redis.disconnect();
  }
}

function addressOf(url: string, defaultPort: number): string {
  const { hostname, port } = new URL(url);
  return `${hostname}:${port || defaultPort}`;
}

function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return reasonOf(error.errors[0]);
  return error instanceof Error ? error.message : String(error);
}
