import type { Database, Tx } from '../platform/database/index.js';

/** Counts an accepted call. SQL: TypeORM would count up the version as well. @returns false when the hook takes no calls */
export async function countAccepted(tx: Tx, hookId: string): Promise<boolean> {
  const [, count] = await tx.query<[unknown[], number]>(
    'UPDATE hooks SET received_count = received_count + 1, last_received_at = now() WHERE id = $1 AND enabled',
    [hookId],
  );
  return count > 0;
}

/** Counts refused calls. SQL: one update of many rows, locked in one order everywhere to avoid deadlocks. */
export async function countRejected(pool: Database['bulk'], counts: ReadonlyMap<string, number>): Promise<void> {
  await pool.query(
    `WITH r AS (
       SELECT h.id, n FROM hooks h JOIN unnest($1::uuid[], $2::int[]) AS r (id, n) USING (id) ORDER BY h.id FOR UPDATE OF h)
     UPDATE hooks h SET rejected_count = rejected_count + r.n FROM r WHERE h.id = r.id`,
    [[...counts.keys()], [...counts.values()]],
  );
}
