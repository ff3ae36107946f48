import { type DeepPartial, type EntityTarget, type FindOptionsWhere, LessThan, type ObjectLiteral } from 'typeorm';
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
 * Deletes the rows whose times (`columns`) are all past, the oldest first and a batch at a time: no statement runs long, and none
 * holds many locks. Rows that another transaction holds are left to the next call.
 * @returns how many there were
 */
export async function deleteBefore<E extends ObjectLiteral>(
  db: Database,
  entity: EntityTarget<E>,
  columns: (keyof E & string)[],
  before: Date,
  { where, signal, batchSize = 1000 }: { where?: FindOptionsWhere<E>; signal?: AbortSignal; batchSize?: number } = {},
): Promise<number> {
  const rows = db.repository(entity);
  const expired = rows
    .createQueryBuilder('r')
    .select('r.ctid')
    .where({ ...where, ...Object.fromEntries(columns.map((column) => [column, LessThan(before)])) })
    .orderBy(`r.${columns[0]}`)
    .limit(batchSize)
    .setLock('pessimistic_write')
    .setOnLocked('skip_locked');
  for (let total = 0; ;) {
    signal?.throwIfAborted();
    const { affected } = await rows
      .createQueryBuilder()
      .delete()
      .where(`ctid = ANY (ARRAY(${expired.getQuery()}))`, expired.getParameters())
      .execute();
    total += affected!;
    if (affected! < batchSize) return total;
  }
}
