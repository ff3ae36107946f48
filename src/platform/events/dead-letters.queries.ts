import type { EntityManager } from 'typeorm';
import type { Database, Tx } from '../database/index.js';
import type { DeadLetter } from './dead-letter.entity.js';
import type { StoredEvent } from './event-definition.js';

/** A dead letter that its handler is to be given again. */
export type WaitingLetter = Pick<DeadLetter, 'id' | 'handler' | 'retries' | 'event'>;

/** What came of the last attempts. */
type Failure = Pick<DeadLetter, 'error' | 'attempts'>;

const DISPATCH = 200;
/** A retry that was given to the queue and has not ended is given again: the queue knows it, or has lost it. */
const AGAIN_SECONDS = 60;

/** How many each handler has. SQL: counts by group. */
export function countByHandler(db: Database): Promise<{ handler: string; n: number }[]> {
  return db.query('SELECT handler, count(*)::int AS n FROM event_dead_letters GROUP BY handler');
}

/** How many each handler has failed to take, and when the last. SQL: counts by group. */
export function failuresByHandler(db: Database): Promise<{ handler: string; failed: number; lastFailedAt: Date }[]> {
  return db.query(
    `SELECT handler, count(*)::int AS failed, max(failed_at) AS "lastFailedAt"
     FROM event_dead_letters WHERE status = 'failed' GROUP BY handler ORDER BY handler`,
  );
}

/** SQL: by the clock that `failed_at` was set by. */
export async function anyFailedWithin(db: Database, minutes: number): Promise<boolean> {
  const found = await db.query(
    `SELECT FROM event_dead_letters
     WHERE failed_at > now() - $1 * interval '1 minute' AND status = 'failed' LIMIT 1`,
    [minutes],
  );
  return found.length > 0;
}

/** Marks what failed of a handler, the oldest first. SQL: one update of very many rows. @returns how many it has marked */
export async function retryFailed(tx: Tx, handler: string, limit: number): Promise<number> {
  const [, count] = await tx.query<[unknown, number]>(
    `UPDATE event_dead_letters SET status = 'retrying', retries = retries + 1, dispatched_at = NULL WHERE id IN (
       SELECT id FROM event_dead_letters WHERE handler = $1 AND status = 'failed'
       ORDER BY failed_at, id LIMIT $2 FOR UPDATE)`,
    [handler, limit],
  );
  return count;
}

/** Takes what some of these handlers are to be given now. SQL: no two processes take the same. @returns also whether more may wait */
export async function takeWaiting(
  db: EntityManager,
  handlers: readonly string[],
): Promise<{ letters: WaitingLetter[]; more: boolean }> {
  const [letters] = await db.query<[WaitingLetter[], number]>(
    `UPDATE event_dead_letters SET dispatched_at = now() WHERE id IN (
       SELECT id FROM event_dead_letters
       WHERE status = 'retrying' AND handler = ANY ($1)
         AND (dispatched_at IS NULL OR dispatched_at < now() - interval '${AGAIN_SECONDS} seconds')
       ORDER BY dispatched_at NULLS FIRST LIMIT ${DISPATCH} FOR UPDATE SKIP LOCKED)
     RETURNING id, handler, retries, event`,
    [handlers],
  );
  return { letters, more: letters.length === DISPATCH };
}

/** Keeps events that a handler has failed to take. SQL: what is kept already counts its attempts on. */
export async function park(
  db: EntityManager,
  handler: string,
  events: readonly StoredEvent[],
  { error, attempts }: Failure,
): Promise<void> {
  await db.query(
    `INSERT INTO event_dead_letters AS d (handler, event_id, event_type, event, error, attempts)
     SELECT $1, e.id, e.type, e.event, $5, $6 FROM unnest($2::uuid[], $3::text[], $4::jsonb[]) AS e (id, type, event)
     ORDER BY e.id
     ON CONFLICT (handler, event_id) DO UPDATE SET error = excluded.error, attempts = d.attempts + excluded.attempts,
       failed_at = now(), status = 'failed'`,
    [
      handler,
      events.map(({ id }) => id),
      events.map(({ type }) => type),
      events.map((event) => JSON.stringify(event)),
      error,
      attempts,
    ],
  );
}

/** After a retry that failed; what was discarded in the meantime stays so. SQL: counts its attempts on. */
export async function parkAgain(
  db: EntityManager,
  { id, retries }: Pick<DeadLetter, 'id' | 'retries'>,
  { error, attempts }: Failure,
): Promise<void> {
  await db.query(
    `UPDATE event_dead_letters SET status = 'failed', error = $3, attempts = attempts + $4, failed_at = now(),
       dispatched_at = NULL
     WHERE id = $1 AND retries = $2 AND status = 'retrying'`,
    [id, retries, error, attempts],
  );
}
