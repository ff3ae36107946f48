import type { EntityManager } from 'typeorm';
import { prepared } from '../platform/database/index.js';
import type { WebhookAttempt } from './webhook-attempt.entity.js';
import type { WebhookBatchItem } from './webhook-batch-item.entity.js';
import type { WebhookDelivery } from './webhook-delivery.entity.js';
import type { Webhook } from './webhook.entity.js';
import type { WebhookDetailDto } from './webhooks.dto.js';

/** What a webhook asks for and may get, as far as the kind of an event tells. */
export type Wants = Pick<Webhook, 'events' | 'readerScopes'>;

const WANTS = prepared(
  'webhooks.wants',
  `SELECT DISTINCT events, reader_scopes AS "readerScopes" FROM webhooks WHERE active`,
);

/** What the active webhooks want. SQL: prepared, because each round of the relay runs it, and DISTINCT, because many want the same. */
export function distinctWants(db: EntityManager): Promise<Wants[]> {
  return db.query(WANTS);
}

/** SQL: three counts in one pass. */
export async function deliveryStats(db: EntityManager, webhookId: string): Promise<WebhookDetailDto['stats']> {
  const [stats] = await db.query<[WebhookDetailDto['stats']]>(
    `SELECT count(*) FILTER (WHERE status = 'pending')::int AS pending,
            count(*) FILTER (WHERE status = 'delivered' AND finished_at > now() - interval '1 day')::int AS delivered_24h,
            count(*) FILTER (WHERE status = 'failed' AND finished_at > now() - interval '1 day')::int AS failed_24h
     FROM webhook_deliveries WHERE webhook_id = $1`,
    [webhookId],
  );
  return stats;
}

export interface DeliveryCounts {
  total: number;
  pending: number;
  delivered: number;
  failed: number;
}

/** Deliveries of a replay by status. SQL: counts in one pass. */
export async function replayCounts(db: EntityManager, replayId: string): Promise<Omit<DeliveryCounts, 'total'>> {
  const [counts] = await db.query<[Omit<DeliveryCounts, 'total'>]>(
    `SELECT count(*) FILTER (WHERE status = 'pending')::int AS pending,
       count(*) FILTER (WHERE status = 'delivered')::int AS delivered,
       count(*) FILTER (WHERE status = 'failed')::int AS failed
     FROM webhook_deliveries WHERE replay_id = $1`,
    [replayId],
  );
  return counts;
}

/** Deliveries of an event by status. An event that waits for a batch counts as pending. SQL: counts over two tables. */
export async function eventCounts(db: EntityManager, eventId: string): Promise<DeliveryCounts> {
  const [counts] = await db.query<[DeliveryCounts]>(
    `SELECT count(*)::int AS total, count(*) FILTER (WHERE status = 'pending')::int AS pending,
       count(*) FILTER (WHERE status = 'delivered')::int AS delivered, count(*) FILTER (WHERE status = 'failed')::int AS failed
     FROM (
       SELECT status FROM webhook_deliveries WHERE event_id = $1 AND status <> 'cancelled'
       UNION ALL
       SELECT coalesce(d.status, 'pending') FROM webhook_batch_items i LEFT JOIN webhook_deliveries d ON d.id = i.delivery_id
       WHERE i.event_id = $1
     ) AS of_event`,
    [eventId],
  );
  return counts;
}

export type DeliveryWithLastAttempt = Pick<
  WebhookDelivery,
  'id' | 'webhookId' | 'status' | 'attempts' | 'nextAttemptAt' | 'finishedAt'
> & { lastStatusCode: WebhookAttempt['statusCode']; lastError: WebhookAttempt['error'] };

/** Deliveries of an event, also as part of a batch, the newest first. SQL: joins tables between which there is no relation. */
export function deliveriesOfEvent(
  db: EntityManager,
  eventId: string,
  limit: number,
): Promise<DeliveryWithLastAttempt[]> {
  return db.query(
    `SELECT d.id, d.webhook_id AS "webhookId", d.status, d.attempts, a.status_code AS "lastStatusCode",
       a.error AS "lastError", d.next_attempt_at AS "nextAttemptAt", d.finished_at AS "finishedAt"
     FROM webhook_deliveries d LEFT JOIN webhook_attempts a ON a.delivery_id = d.id AND a.n = d.attempts
     WHERE d.event_id = $1 OR d.id IN (SELECT delivery_id FROM webhook_batch_items WHERE event_id = $1)
     ORDER BY d.created_at DESC, d.id DESC LIMIT $2`,
    [eventId, limit],
  );
}

/** Records successes of failing webhooks, and otherwise once a minute. SQL: many rows, locked in one order for all processes. */
export async function noteSuccesses(db: EntityManager, webhookIds: readonly string[]): Promise<void> {
  await db.query(
    `UPDATE webhooks SET failing_since = NULL, consecutive_failures = 0, last_success_at = now()
     WHERE id IN (
       SELECT id FROM webhooks WHERE id = ANY ($1::uuid[]) AND (failing_since IS NOT NULL OR last_success_at IS NULL
         OR last_success_at < now() - interval '1 minute') ORDER BY id FOR UPDATE)`,
    [webhookIds],
  );
}

/**
 * Adds failures by webhook. SQL: many rows, locked in one order for all processes.
 * @returns the webhooks that have failed for too long (seconds) or too often in a row (0: no such limit)
 */
export async function noteFailures(
  db: EntityManager,
  failures: ReadonlyMap<string, number>,
  limits: { seconds: number; failures: number },
): Promise<string[]> {
  const [rows] = await db.query<[{ id: string; tooLong: boolean }[], number]>(
    `WITH f AS (
       SELECT w.id, n FROM webhooks w JOIN unnest($1::uuid[], $2::int[]) AS f (id, n) USING (id)
       ORDER BY w.id FOR UPDATE OF w)
     UPDATE webhooks w SET failing_since = coalesce(failing_since, now()), consecutive_failures = consecutive_failures + f.n
     FROM f WHERE w.id = f.id
     RETURNING w.id, w.active AND (w.failing_since <= now() - make_interval(secs => $3)
       OR ($4 > 0 AND w.consecutive_failures >= $4)) AS "tooLong"`,
    [[...failures.keys()], [...failures.values()], limits.seconds, limits.failures],
  );
  return rows.filter(({ tooLong }) => tooLong).map(({ id }) => id);
}

/** An event for webhooks that take several events in one delivery. */
export interface BatchItem {
  eventId: string;
  seq: string;
  body: Buffer;
  expiresAt: string | null;
  webhookIds: readonly string[];
}

/** Adds events to batches, except those that the webhook already has. SQL: many rows in one statement. @returns how many were added */
export async function addBatchItems(db: EntityManager, items: readonly BatchItem[]): Promise<number> {
  const added = await db.query<object[]>(
    `INSERT INTO webhook_batch_items (webhook_id, event_id, seq, body, expires_at)
     SELECT w.id, ($3::uuid[])[p.n], ($4::bigint[])[p.n], ($5::bytea[])[p.n], ($6::timestamptz[])[p.n]
     FROM unnest($1::uuid[], $2::int[]) AS p (webhook_id, n) JOIN webhooks w ON w.id = p.webhook_id AND w.active
     ORDER BY 1, 2
     ON CONFLICT (webhook_id, event_id) DO NOTHING RETURNING event_id`,
    [
      items.flatMap(({ webhookIds }) => webhookIds),
      items.flatMap(({ webhookIds }, n) => webhookIds.map(() => n + 1)),
      items.map((i) => i.eventId),
      items.map((i) => i.seq),
      items.map((i) => i.body),
      items.map((i) => i.expiresAt),
    ],
  );
  return added.length;
}

/** Webhooks with a batch that is full or has waited long enough. SQL: checks the first events of each webhook (LATERAL). */
export async function webhooksWithDueBatch(db: EntityManager, limit: number): Promise<string[]> {
  const rows = await db.query<{ id: string }[]>(
    `SELECT w.id FROM webhooks w CROSS JOIN LATERAL (
       SELECT count(*) AS n, min(added_at) AS oldest FROM (
         SELECT added_at FROM webhook_batch_items
         WHERE webhook_id = w.id AND delivery_id IS NULL ORDER BY seq LIMIT coalesce(w.batch_size, 1)) AS first) AS waiting
     WHERE w.active AND waiting.n > 0 AND (waiting.n >= coalesce(w.batch_size, 1)
       OR waiting.oldest <= now() - coalesce(w.batch_wait_ms, 0) * interval '1 millisecond')
     LIMIT $1`,
    [limit],
  );
  return rows.map(({ id }) => id);
}

/** `late`: the event has waited as long as the webhook allows. */
export type WaitingItem = Pick<WebhookBatchItem, 'eventId' | 'expiresAt'> & {
  body: Buffer;
  expired: boolean;
  late: boolean;
};

/** The first events that wait for a batch of the webhook. SQL: compares times by the clock of the database, which also set them. */
export function waitingItems(
  db: EntityManager,
  webhookId: string,
  { waitMs, limit }: { waitMs: number; limit: number },
): Promise<WaitingItem[]> {
  return db.query(
    `SELECT event_id AS "eventId", body, expires_at AS "expiresAt", coalesce(expires_at <= now(), false) AS expired,
       added_at <= now() - $3 * interval '1 millisecond' AS late
     FROM webhook_batch_items WHERE webhook_id = $1 AND delivery_id IS NULL ORDER BY seq LIMIT $2`,
    [webhookId, limit, waitMs],
  );
}

/** Turns each event that waits for a batch into a cancelled delivery. SQL: moves rows between tables in one statement. */
export async function cancelWaitingItems(db: EntityManager, webhookId: string): Promise<void> {
  await db.query(
    `WITH waiting AS (
       DELETE FROM webhook_batch_items WHERE webhook_id = $1 AND delivery_id IS NULL RETURNING event_id, body, expires_at
     )
     INSERT INTO webhook_deliveries (webhook_id, event_id, event_type, body, expires_at, status, next_attempt_at, finished_at)
     SELECT $1, w.event_id, e.type, w.body, w.expires_at, 'cancelled', NULL, now()
     FROM waiting w JOIN events e ON e.id = w.event_id
     ON CONFLICT (webhook_id, event_id) DO NOTHING`,
    [webhookId],
  );
}

/** The event types that are queued for a webhook. SQL: distinct over two tables, one of them of another module. */
export async function queuedTypes(db: EntityManager, webhookId: string): Promise<string[]> {
  const rows = await db.query<{ type: string }[]>(
    `SELECT event_type AS type FROM webhook_deliveries WHERE webhook_id = $1 AND status = 'pending' GROUP BY 1
     UNION SELECT e.type FROM webhook_batch_items i JOIN events e ON e.id = i.event_id
     WHERE i.webhook_id = $1 AND i.delivery_id IS NULL`,
    [webhookId],
  );
  return rows.map(({ type }) => type);
}

/** Deletes events of these types that wait for a batch. SQL: by a column of a table of another module. */
export async function deleteWaitingItems(
  db: EntityManager,
  webhookId: string,
  types: readonly string[],
): Promise<void> {
  await db.query(
    `DELETE FROM webhook_batch_items i USING events e
     WHERE i.webhook_id = $1 AND i.delivery_id IS NULL AND e.id = i.event_id AND e.type = ANY ($2)`,
    [webhookId, types],
  );
}
