import type { DeepPartial, EntityTarget, FindOptionsWhere, ObjectLiteral } from 'typeorm';
import type { Database, Tx } from './database.js';

/** The row for a change, locked until the end of the transaction, or null. */
export function findForUpdate<E extends ObjectLiteral>(
  tx: Tx,
  entity: EntityTarget<E>,
  where: FindOptionsWhere<E>,
): Promise<E | null> {
  return tx.findOne(entity, { where, lock: { mode: 'pessimistic_write' } });
}

/** Inserts a row and gives it back with the values that the database has filled in. */
export async function insertRow<E extends ObjectLiteral>(
  tx: Tx,
  entity: EntityTarget<E>,
  values: Partial<E>,
): Promise<E> {
  const row = tx.create(entity, values as DeepPartial<E>);
  await tx.createQueryBuilder().insert().into(entity).values(row).execute();
  return hydrated(tx, entity, row);
}

/** The same; null when another row has its unique values already. The entity must have a column with a default. */
export async function insertIfNew<E extends ObjectLiteral>(
  tx: Tx,
  entity: EntityTarget<E>,
  values: Partial<E>,
): Promise<E | null> {
  const row = tx.create(entity, values as DeepPartial<E>);
  const inserted = await tx.createQueryBuilder().insert().into(entity).values(row).orIgnore().execute();
  return (inserted.raw as unknown[]).length > 0 ? hydrated(tx, entity, row) : null;
}

/** TypeORM leaves the values that RETURNING gives it as the driver has them, and what was not given undefined. */
function hydrated<E extends ObjectLiteral>(tx: Tx, entity: EntityTarget<E>, row: E): E {
  for (const column of tx.connection.getMetadata(entity).columns) {
    const value: unknown = column.getEntityValue(row);
    if (value === undefined && column.isNullable) column.setEntityValue(row, null);
    if (typeof value !== 'string' || column.transformer === undefined) continue;
    for (const transformer of [column.transformer].flat()) column.setEntityValue(row, transformer.from(value));
  }
  return row;
}

/**
 * Deletes the rows whose time is past, a batch at a time: no statement runs long, and none holds many locks.
 * @returns how many there were
 */
export async function deleteBefore<E extends ObjectLiteral>(
  db: Database,
  entity: EntityTarget<E>,
  time: keyof E & string,
  before: Date,
  batchSize = 1000,
): Promise<number> {
  const { metadata } = db.repository(entity);
  const column = metadata.findColumnWithPropertyName(time)!.databaseName;
  for (let total = 0; ;) {
    const [, deleted] = await db.query<unknown>(
      `DELETE FROM ${metadata.tableName} WHERE ctid = ANY (ARRAY(
         SELECT ctid FROM ${metadata.tableName} WHERE ${column} < $1 LIMIT ${batchSize}))`,
      [before],
    );
    total += Number(deleted);
    if (Number(deleted) < batchSize) return total;
  }
}
