import type { Tx } from '../platform/database/index.js';

/**
 * Takes the lease on the gauges that all processes share, or extends it. SQL: TypeORM has no condition on what an insert updates.
 * @returns whether this process holds it
 */
export async function takeMetricsLease(tx: Tx, processId: string, seconds: number): Promise<boolean> {
  const taken = await tx.query<unknown[]>(
    `INSERT INTO metrics_reporter AS m (process_id, expires_at) VALUES ($1, now() + make_interval(secs => $2))
     ON CONFLICT (one) DO UPDATE SET process_id = excluded.process_id, expires_at = excluded.expires_at
       WHERE m.process_id = excluded.process_id OR m.expires_at < now()
     RETURNING one`,
    [processId, seconds],
  );
  return taken.length > 0;
}
