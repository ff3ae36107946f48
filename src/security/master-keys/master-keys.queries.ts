import type { EntityManager } from 'typeorm';
import type { EncryptedTable } from '../../platform/crypto/index.js';
import type { MasterKeyProbe } from './master-key-probe.entity.js';

/** A process that has not announced its key for so long has ended or encrypts with another one. */
const SILENCE = `interval '60 seconds'`;

/** SQL: a lock of the table: of processes that start at once with different keys, one is the first. */
export async function lockProbes(tx: EntityManager): Promise<void> {
  await tx.query(`LOCK TABLE master_key_probe IN SHARE ROW EXCLUSIVE MODE`);
}

/** Says that this key is encrypted with. SQL: an upsert that keeps the value that is sealed already. */
export async function announceKey(
  db: EntityManager,
  { keyId, sealed }: Pick<MasterKeyProbe, 'keyId' | 'sealed'>,
): Promise<void> {
  await db.query(
    `INSERT INTO master_key_probe AS p (key_id, sealed) VALUES ($1, $2)
     ON CONFLICT (key_id) DO UPDATE SET encrypting_at = now(), sealed = coalesce(p.sealed, excluded.sealed)`,
    [keyId, sealed],
  );
}

/** Keys besides this one that a running process encrypts with. SQL: by the clock that they were announced by. */
export async function othersEncrypting(db: EntityManager, keyId: string): Promise<string[]> {
  const rows = await db.query<Pick<MasterKeyProbe, 'keyId'>[]>(
    `SELECT key_id AS "keyId" FROM master_key_probe
     WHERE key_id <> $1 AND encrypting_at > now() - ${SILENCE} ORDER BY key_id`,
    [keyId],
  );
  return rows.map((row) => row.keyId);
}

/** Deletes the keys that no process encrypts with, except `needed`. SQL: by the clock that they were announced by. @returns their ids */
export async function forgetKeys(db: EntityManager, needed: readonly string[]): Promise<string[]> {
  const [rows] = await db.query<[Pick<MasterKeyProbe, 'keyId'>[], number]>(
    `DELETE FROM master_key_probe
     WHERE key_id <> ALL ($1) AND encrypting_at <= now() - ${SILENCE} RETURNING key_id AS "keyId"`,
    [needed],
  );
  return rows.map((row) => row.keyId).sort();
}

/** A row with encrypted columns, by their names; `row_key` holds the values of its key as text. */
export type EncryptedRow = Record<string, string | null> & { row_key: string[] };

/**
 * Locks the next rows in which some column does not begin with `prefix`. SQL: tables of any domain, by their declaration.
 * @param after `row_key` of the last row of the batch before; empty at the beginning
 */
export function lockOldRows(
  tx: EntityManager,
  { table, key, columns }: EncryptedTable,
  { prefix, after, limit }: { prefix: string; after: readonly string[]; limit: number },
): Promise<EncryptedRow[]> {
  const old = columns.map((column) => `NOT starts_with(${column}, $1)`).join(' OR ');
  const later = after.length > 0 ? `AND (${key.join()}) > (${key.map((_, n) => `$${n + 2}`).join()})` : '';
  // Not FOR UPDATE: rows that refer to these can be inserted meanwhile.
  return tx.query(
    `SELECT ARRAY[${key.map((column) => `${column}::text`).join()}] AS row_key, ${columns.join()} FROM ${table}
     WHERE (${old}) ${later} ORDER BY ${key.join()} LIMIT ${limit} FOR NO KEY UPDATE`,
    [prefix, ...after],
  );
}

/** SQL: tables of any domain, by their declaration. */
export async function updateEncrypted(
  tx: EntityManager,
  { table, key, columns }: EncryptedTable,
  rowKey: readonly string[],
  values: readonly (string | null)[],
): Promise<void> {
  await tx.query(
    `UPDATE ${table} SET ${columns.map((column, n) => `${column} = $${n + 1}`).join()}
     WHERE (${key.join()}) = (${key.map((_, n) => `$${columns.length + n + 1}`).join()})`,
    [...values, ...rowKey],
  );
}

/** Ids of the keys that some value is encrypted with which does not begin with `prefix`. SQL: tables of any domain, by their declaration. */
export async function olderKeys(
  db: EntityManager,
  tables: readonly EncryptedTable[],
  prefix: string,
): Promise<string[]> {
  const parts = tables.flatMap(({ table, columns }) =>
    columns.map((c) => `SELECT split_part(${c}, '.', 2) AS id FROM ${table} WHERE NOT starts_with(${c}, $1)`),
  );
  const rows = await db.query<{ id: string }[]>(parts.join(' UNION '), [prefix]);
  return rows.map(({ id }) => id);
}
