import type { EntityManager } from 'typeorm';

/**
 * Adds or renews the row of a key, and keeps it locked until the transaction ends; waits for another transaction that holds it.
 * SQL: only an expired row may be overwritten, a condition that an upsert of TypeORM does not have.
 * @returns false when the key is taken by an earlier request
 */
export async function claimKey(
  tx: EntityManager,
  { principal, route, key }: { principal: string; route: string; key: string },
  requestHash: Buffer,
): Promise<boolean> {
  const claimed = await tx.query<unknown[]>(
    `INSERT INTO idempotency_keys AS k (principal, route, key, request_hash, expires_at)
     VALUES ($1, $2, $3, $4, now() + interval '24 hours')
     ON CONFLICT (principal, route, key) DO UPDATE
       SET request_hash = excluded.request_hash, created_at = now(), expires_at = excluded.expires_at
       WHERE k.expires_at <= now()
     RETURNING 1`,
    [principal, route, key, requestHash],
  );
  return claimed.length > 0;
}
