import type { EntityManager, SelectQueryBuilder } from 'typeorm';
import { prepared } from '../platform/database/index.js';
import type { AuditEntry } from './audit-entry.entity.js';
import type { AuditMinute } from './audit-minute.entity.js';

/** A transaction, or the pool for bulk writes. */
interface Executor {
  query(sql: string, params: unknown[]): Promise<unknown>;
}

export type NewAuditEntry = Omit<AuditEntry, 'id' | 'count'>;

const INSERT_ENTRIES = prepared(
  'audit.entries',
  `INSERT INTO audit_entries (at, actor_id, credential_id, action, resource_id, status_code, ip_address, user_agent, claimed_user_id, request_id)
   SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::text[], $8::text[], $9::text[], $10::text[])`,
);

/** SQL: prepared, every request that changes something runs it; a whole batch in one statement. */
export async function insertEntries(db: Executor, entries: readonly NewAuditEntry[]): Promise<void> {
  const column = <K extends keyof NewAuditEntry>(key: K): NewAuditEntry[K][] => entries.map((entry) => entry[key]);
  await db.query(INSERT_ENTRIES, [
    column('at'),
    column('actorId'),
    column('credentialId'),
    column('action'),
    column('resourceId'),
    column('statusCode'),
    column('ipAddress'),
    column('userAgent'),
    column('claimedUserId'),
    column('requestId'),
  ]);
}

/** SQL: adds to the counts of other processes, many rows in one statement. */
export async function addToMinutes(db: Executor, counts: readonly AuditMinute[]): Promise<void> {
  const column = <K extends keyof AuditMinute>(key: K): AuditMinute[K][] => counts.map((count) => count[key]);
  await db.query(
    `INSERT INTO audit_minutes AS m (minute, actor_id, credential_id, action, status_code, count, ip_address, user_agent, network)
     SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::int[], $7::text[], $8::text[], $9::text[])
     ON CONFLICT (minute, actor_id, credential_id, action, status_code, network) DO UPDATE SET count = m.count + excluded.count`,
    [
      column('minute'),
      column('actorId'),
      column('credentialId'),
      column('action'),
      column('statusCode'),
      column('count'),
      column('ipAddress'),
      column('userAgent'),
      column('network'),
    ],
  );
}

/** Moves minutes that are over into the append-only entries. SQL: from table to table in one statement, safe to run twice or in two processes. */
export async function moveMinutesToEntries(db: EntityManager): Promise<void> {
  await db.query(
    `WITH over AS (DELETE FROM audit_minutes WHERE minute < now() - interval '70 seconds' RETURNING *)
     INSERT INTO audit_entries (at, actor_id, credential_id, action, status_code, count, ip_address, user_agent)
     SELECT minute, actor_id, nullif(credential_id, ''), action, status_code, count, ip_address, user_agent FROM over`,
  );
}

/** How many rows a list has, counted up to `limit`. SQL: counts no further, however many there are. */
export async function countUpTo(
  db: EntityManager,
  list: SelectQueryBuilder<AuditEntry>,
  limit: number,
): Promise<number> {
  const [sql, params] = list.clone().select('1').limit(limit).getQueryAndParameters();
  const [{ total }] = await db.query<[{ total: number }]>(
    `SELECT count(*)::int AS total FROM (${sql}) AS found`,
    params,
  );
  return total;
}

/** SQL: a trigger. Statement triggers guard only the table that a statement names, so each partition has its own. */
export function appendOnlyTrigger(partition: string): string {
  return `CREATE TRIGGER audit_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ${partition}
    FOR EACH STATEMENT EXECUTE FUNCTION audit_entries_append_only()`;
}
