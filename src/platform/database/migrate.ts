import { Client } from 'pg';
import { DataSource } from 'typeorm';
import { advisoryLock } from './advisory-locks.js';
import { dataSourceOptions, type Schema } from './data-source-options.js';
import { databaseErrorKind } from './database-error.js';
import { StartError } from './embedded-start-error.js';
import { sessionOptions, statementsOf } from './session-options.js';

/** One lock for the whole cluster of replicas: only one of them migrates at a time. */
export const MIGRATION_LOCK = advisoryLock('database.migrate');
/** Longest wait for another replica that migrates. */
const WAIT_MS = 10 * 60_000;
/** Was run in every database from before the schema got its baseline. */
const FIRST_BEFORE_RELEASE = 'CreateEvents1763700000000';

/**
 * Brings the database to the newest schema. Safe to call from many replicas at once: an advisory lock lets one of them
 * work and the others find nothing left to do. A migration may take as long as it needs, but not wait for a table in use.
 * @param url of PostgreSQL itself or of a pooler in session mode, as the lock is one of the session
 * @returns names of the migrations that were run
 * @throws StartError when another replica is still at it after `waitMs`, or when the schema is newer than this program: it
 * could write what the newer one does not expect
 */
export async function migrate(url: string, schema: Schema, waitMs = WAIT_MS): Promise<string[]> {
  const guard = new Client({
    connectionString: url,
    connectionTimeoutMillis: 5000,
    keepAlive: true,
  });
  // It is idle while migrations run; should it break, the database refuses the same migration twice by itself.
  guard.on('error', () => undefined);
  await guard.connect();
  try {
    await guard.query(statementsOf('SET', { statement_timeout: 0, lock_timeout: waitMs }));
    await lock(guard, waitMs);
    await refuseNewer(guard, schema);
    return await run(url, schema);
  } finally {
    await guard.end();
  }
}

async function lock(guard: Client, waitMs: number): Promise<void> {
  try {
    await guard.query('SELECT pg_advisory_lock($1)', [MIGRATION_LOCK]);
  } catch (error) {
    if (databaseErrorKind(error) !== 'lock_timeout') throw error;
    throw new StartError(
      `Another Nexus has been migrating this database for ${Math.round(waitMs / 1000)} s; start again when it is done.`,
    );
  }
}

async function refuseNewer(guard: Client, schema: Schema): Promise<void> {
  const { rows: tables } = await guard.query(`SELECT 1 WHERE to_regclass('nexus_migrations') IS NOT NULL`);
  if (tables.length === 0) return;
  const { rows } = await guard.query<{ name: string }>('SELECT name FROM nexus_migrations ORDER BY id');
  const known = new Set(schema.migrations.map((Migration) => new Migration().name ?? Migration.name));
  const newer = rows.map(({ name }) => name).filter((name) => !known.has(name));
  if (newer.length === 0) return;
  if (newer.includes(FIRST_BEFORE_RELEASE)) {
    throw new StartError(
      'This database was made by a version of Nexus from before its first release, which cannot be carried over. ' +
        'Start with an empty database or another NEXUS_HOME.',
    );
  }
  throw new StartError(
    `The database belongs to a newer version of Nexus (it has ${newer.join(', ')}). ` +
      'Start that version, or restore a backup from before the upgrade.',
  );
}

/** A connection for migrations: they may take their time, but a table in use fails them soon. */
export function migrationSource(url: string, schema: Schema): DataSource {
  return new DataSource({
    ...dataSourceOptions(url, schema),
    extra: sessionOptions({
      statement_timeout: 0,
      idle_in_transaction_session_timeout: 0,
      lock_timeout: 30_000,
      TimeZone: 'UTC',
    }),
  });
}

async function run(url: string, schema: Schema): Promise<string[]> {
  const source = await migrationSource(url, schema).initialize();
  try {
    return (await source.runMigrations()).map((m) => m.name);
  } finally {
    await source.destroy();
  }
}
