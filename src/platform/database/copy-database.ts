import { pipeline } from 'node:stream/promises';
import pg from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import type { Schema } from './data-source-options.js';
import { StartError } from './embedded-start-error.js';
import { migrate, MIGRATION_LOCK } from './migrate.js';
import { partitionsOf, type Table, tablesOf } from './table-catalogue.js';

/** What a copy takes as long as it needs, and texts that mean the same to both servers. */
const SESSION = `
  SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '30s';
  SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 1`;

/** Tables that TypeORM makes and fills for itself in every database. */
const MADE_BY_TYPEORM = ['nexus_migrations', 'typeorm_metadata'];

export interface CopyReport {
  tables: number;
  rows: number;
}

/**
 * Copies all data of one database into an empty one: brings the target to the same schema, then copies one snapshot of the source,
 * table by table, in a single transaction of the target. Either everything arrives or nothing. The tables of the queues are left
 * out, because the server makes their jobs anew from the copied rows.
 * @throws StartError when the source is not of this version, the target is not empty, or a table arrived incomplete
 */
export async function copyDatabase(from: string, to: string, schema: Schema): Promise<CopyReport> {
  return withClient(from, async (source) => {
    await source.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    if ((await versionOf(source)) !== newestVersion(schema)) {
      throw new StartError(
        'The database to copy is not of this version of Nexus: start this version on it once, stop it and try again.',
      );
    }
    return withClient(to, async (target) => {
      await checkTarget(target, schema);
      await migrate(to, schema);
      await target.query('BEGIN');
      // Servers that start on the target wait for it, so that none writes what is not copied yet.
      await target.query('SELECT pg_advisory_xact_lock($1)', [MIGRATION_LOCK]);
      const report = await copyAll(source, target, schema);
      await target.query('COMMIT');
      await target.query('ANALYZE');
      return report;
    });
  });
}

async function copyAll(source: pg.Client, target: pg.Client, schema: Schema): Promise<CopyReport> {
  const tables = (await tablesOf(source)).filter(({ name }) => !MADE_BY_TYPEORM.includes(name));
  await clear(target, tables, schema);
  await copyPartitions(source, target);
  let rows = 0;
  for (const table of tables) rows += await copyTable(source, target, table);
  await copySequences(source, target);
  return { tables: tables.length, rows };
}

/** Leaves only tables without rows; those that the migrations fill get the rows of the source instead. */
async function clear(target: pg.Client, tables: Table[], schema: Schema): Promise<void> {
  for (const { name } of tables) {
    const table = pg.escapeIdentifier(name);
    if (schema.filledByMigrations.includes(name)) {
      await target.query(`DELETE FROM ${table}`);
      continue;
    }
    const { rowCount } = await target.query(`SELECT FROM ${table} LIMIT 1`);
    if (rowCount) throw notEmpty(name);
  }
}

/** The bounds of partitions depend on when a database was made: the target gets those of the source. */
async function copyPartitions(source: pg.Client, target: pg.Client): Promise<void> {
  for (const { name } of await partitionsOf(target)) await target.query(`DROP TABLE ${pg.escapeIdentifier(name)}`);
  for (const { name, parent, bound, triggers } of await partitionsOf(source)) {
    const [partition, table] = [pg.escapeIdentifier(name), pg.escapeIdentifier(parent)];
    await target.query(`CREATE TABLE ${partition} PARTITION OF ${table} ${bound}`);
    for (const trigger of triggers) await target.query(trigger);
  }
}

async function copyTable(source: pg.Client, target: pg.Client, { name, columns }: Table): Promise<number> {
  const table = pg.escapeIdentifier(name);
  const list = columns.map((column) => pg.escapeIdentifier(column)).join();
  await pipeline(
    source.query(copyTo(`COPY (SELECT ${list} FROM ${table}) TO STDOUT`)),
    target.query(copyFrom(`COPY ${table} (${list}) FROM STDIN`)),
  );
  const [expected, found] = [await countOf(source, table), await countOf(target, table)];
  if (found !== expected) throw new StartError(`Of ${expected} rows of the table ${name} ${found} arrived.`);
  return found;
}

async function countOf(client: pg.Client, table: string): Promise<number> {
  const { rows } = await client.query<{ count: string }>(`SELECT count(*) FROM ${table}`);
  return Number(rows[0].count);
}

/** Read after the snapshot was taken, so that no number is below one that was copied. */
async function copySequences(source: pg.Client, target: pg.Client): Promise<void> {
  const { rows } = await source.query<{ name: string; value: string }>(
    `SELECT quote_ident(sequencename) AS name, last_value AS value FROM pg_sequences
     WHERE schemaname = current_schema() AND last_value IS NOT NULL`,
  );
  for (const { name, value } of rows) await target.query('SELECT setval($1, $2)', [name, value]);
}

/** A copy that failed leaves the tables of this version without rows, which do not hinder the next one. */
async function checkTarget(target: pg.Client, schema: Schema): Promise<void> {
  const { rows } = await target.query<{ encoding: string }>(`SELECT current_setting('server_encoding') AS encoding`);
  if (rows[0].encoding !== 'UTF8') {
    throw new StartError(`The database to copy to has the encoding ${rows[0].encoding}: make it with ENCODING 'UTF8'.`);
  }
  const version = await versionOf(target);
  if (version === newestVersion(schema)) return;
  if (version !== undefined) throw new StartError('The database to copy to belongs to another version of Nexus.');
  const [table] = await tablesOf(target);
  if (table) throw notEmpty(table.name);
}

function notEmpty(table: string): StartError {
  return new StartError(`The database to copy to is not empty (table ${table}): make a new one.`);
}

/** Names of all migrations that have run; undefined for a database without any. */
async function versionOf(client: pg.Client): Promise<string | undefined> {
  const { rowCount } = await client.query(`SELECT WHERE to_regclass('nexus_migrations') IS NOT NULL`);
  if (!rowCount) return undefined;
  const { rows } = await client.query<{ name: string }>('SELECT name FROM nexus_migrations');
  return rows
    .map(({ name }) => name)
    .sort()
    .join();
}

function newestVersion({ migrations }: Schema): string {
  return migrations
    .map((Migration) => new Migration().name ?? Migration.name)
    .sort()
    .join();
}

async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5000, keepAlive: true });
  // A connection that breaks also rejects the statement that waits for it.
  client.on('error', () => undefined);
  await client.connect();
  try {
    await client.query(SESSION);
    return await work(client);
  } finally {
    await client.end();
  }
}
