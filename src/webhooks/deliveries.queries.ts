import type { EntityManager } from 'typeorm';
import { prepared } from '../platform/database/index.js';
import type { EventBody } from './event-body.js';
import type { WebhookAttempt } from './webhook-attempt.entity.js';
import type { WebhookDelivery } from './webhook-delivery.entity.js';
import type { Webhook } from './webhook.entity.js';

/** A delivery that is due. `failing`: the last attempts to its webhook failed. */
export type DueDelivery = Pick<WebhookDelivery, 'id' | 'webhookId'> & { failing: boolean };

/**
 * A delivery that only this process may send until its lease ends. `attempts` includes the attempt to come. The previous secret is
 * null when it is no longer valid.
 */
export type ClaimedDelivery = Pick<
  WebhookDelivery,
  'id' | 'webhookId' | 'eventId' | 'eventType' | 'body' | 'attempts' | 'failures' | 'expiresAt' | 'replayId'
> &
  Pick<Webhook, 'url' | 'retryConfig' | 'secretBox' | 'previousSecretBox'>;

/** The outcome of one attempt. */
export type AttemptOutcome = Omit<WebhookAttempt, 'deliveryInfo'> & {
  webhookId: string;
  /** `unsent`: no request was made, and this does not count as an attempt. */
  result: 'delivered' | 'retry' | 'failed' | 'unsent';
  /** Milliseconds until the next attempt, with `retry` and `unsent`. */
  pauseMs: number;
  /** The `delivery_info` that the body contained; null when nothing was sent. */
  deliveryInfo: string | null;
};

export interface DeliveryOrder extends EventBody {
  webhookIds: readonly string[];
}

/** An attempt without an outcome after this time was cut off with its process. No attempt may take this long. */
const LEASE_SECONDS = 45;
const SWEEP_PER_WEBHOOK = 300;
/** Fewer for a failing webhook: it gets one request at a time, and each pause drops what waits for it in memory. */
const SWEEP_PER_FAILING = 20;
const SWEEP = 5000;

const ADD = prepared(
  'webhooks.add',
  `INSERT INTO webhook_deliveries AS d (webhook_id, event_id, event_type, body, expires_at)
   SELECT w.id, ($3::uuid[])[p.n], ($4::text[])[p.n], ($5::bytea[])[p.n], ($6::timestamptz[])[p.n]
   FROM unnest($1::uuid[], $2::int[]) AS p (webhook_id, n) JOIN webhooks w ON w.id = p.webhook_id AND w.active
   ORDER BY w.id, 2 FOR SHARE OF w
   ON CONFLICT (webhook_id, event_id) DO NOTHING
   RETURNING d.id, d.webhook_id AS "webhookId",
     (SELECT failing_since IS NOT NULL FROM webhooks w WHERE w.id = d.webhook_id) AS failing`,
);

/**
 * Adds one delivery per event and active webhook, unless it exists. Until the transaction ends none of these webhooks can be
 * disabled, since disabling ends the waiting deliveries and would miss these. SQL: many rows of many webhooks in one statement.
 */
export function addDeliveries(db: EntityManager, orders: readonly DeliveryOrder[]): Promise<DueDelivery[]> {
  return db.query(ADD, columnsOf(orders));
}

/**
 * Restarts the deliveries of events for a replay, and adds missing ones. Pending deliveries are not changed.
 * SQL: many rows in one statement. @returns how many were restarted or added
 */
export async function replayDeliveries(
  db: EntityManager,
  replayId: string,
  orders: readonly DeliveryOrder[],
): Promise<number> {
  const rows = await db.query<object[]>(
    `INSERT INTO webhook_deliveries AS d (webhook_id, event_id, event_type, body, expires_at, replay_id)
     SELECT w.id, ($3::uuid[])[p.n], ($4::text[])[p.n], ($5::bytea[])[p.n], ($6::timestamptz[])[p.n], $7
     FROM unnest($1::uuid[], $2::int[]) AS p (webhook_id, n) JOIN webhooks w ON w.id = p.webhook_id AND w.active
     ORDER BY w.id, 2
     ON CONFLICT (webhook_id, event_id) DO UPDATE SET status = 'pending', failures = 0, next_attempt_at = now(),
       finished_at = NULL, replay_id = excluded.replay_id WHERE d.status <> 'pending'
     RETURNING d.id`,
    [...columnsOf(orders), replayId],
  );
  return rows.length;
}

/** For one webhook: adds missing deliveries, and restarts failed and cancelled ones. SQL: many rows in one statement. */
export async function recoverDeliveries(
  db: EntityManager,
  webhookId: string,
  events: readonly EventBody[],
): Promise<number> {
  const rows = await db.query<object[]>(
    `INSERT INTO webhook_deliveries AS d (webhook_id, event_id, event_type, body, expires_at)
     SELECT w.id, e.id, e.type, e.body, e.expires_at
     FROM webhooks w, unnest($2::uuid[], $3::text[], $4::bytea[], $5::timestamptz[]) AS e (id, type, body, expires_at)
     WHERE w.id = $1 AND w.active
     ON CONFLICT (webhook_id, event_id) DO UPDATE
       SET status = 'pending', failures = 0, next_attempt_at = now(), finished_at = NULL
       WHERE d.status IN ('failed', 'cancelled')
     RETURNING d.id`,
    [webhookId, ...bodyColumnsOf(events)],
  );
  return rows.length;
}

/** A bounded number of due deliveries of each other webhook, so that none delays the others. SQL: a limit per webhook (LATERAL). */
export function dueDeliveries(db: EntityManager, exceptWebhooks: readonly string[]): Promise<DueDelivery[]> {
  return db.query(
    `SELECT d.id, w.id AS "webhookId", w.failing_since IS NOT NULL AS failing
     FROM webhooks w CROSS JOIN LATERAL (
       SELECT id FROM webhook_deliveries
       WHERE webhook_id = w.id AND status = 'pending' AND next_attempt_at <= now()
       ORDER BY next_attempt_at
       LIMIT CASE WHEN w.failing_since IS NULL THEN ${SWEEP_PER_WEBHOOK} ELSE ${SWEEP_PER_FAILING} END) d
     WHERE w.active AND w.id <> ALL ($1::uuid[]) LIMIT ${SWEEP}`,
    [exceptWebhooks],
  );
}

const CLAIM = prepared(
  'webhooks.claim',
  `WITH due AS (
     SELECT d.id, d.attempts, d.sending_since FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id
     WHERE d.id = ANY ($1::uuid[]) AND d.status = 'pending' AND d.next_attempt_at <= now() AND w.active
     ORDER BY d.id FOR UPDATE OF d SKIP LOCKED
   ), cut_off AS (
     INSERT INTO webhook_attempts (delivery_id, n, at, error_code, error)
     SELECT id, attempts, sending_since, 'INTERRUPTED', 'The server ended before the answer' FROM due
     WHERE sending_since IS NOT NULL ON CONFLICT DO NOTHING
   )
   UPDATE webhook_deliveries d SET attempts = d.attempts + 1, sending_since = clock_timestamp(),
     next_attempt_at = now() + interval '${LEASE_SECONDS} seconds'
   FROM due, webhooks w WHERE d.id = due.id AND w.id = d.webhook_id
   RETURNING d.id, d.webhook_id AS "webhookId", d.event_id AS "eventId", d.event_type AS "eventType", d.body, d.attempts,
     d.failures, d.expires_at AS "expiresAt", d.replay_id AS "replayId", w.url, w.retry_config AS "retryConfig",
     w.secret_box AS "secretBox",
     CASE WHEN w.previous_secret_until > now() THEN w.previous_secret_box END AS "previousSecretBox"`,
);

/**
 * Claims the next attempt of these deliveries for this process. Leaves out those that are not due, that another process has claimed,
 * and those of inactive webhooks. SQL: claims a batch with a lease (SKIP LOCKED) and logs attempts that were cut off, in one statement.
 */
export async function claimDeliveries(db: EntityManager, ids: readonly string[]): Promise<ClaimedDelivery[]> {
  const [rows] = await db.query<[ClaimedDelivery[], number]>(CLAIM, [ids]);
  return rows;
}

const FINISH = `WITH o AS (
     SELECT * FROM unnest($1::uuid[], $2::int[], $3::text[], $4::float8[], $5::timestamptz[], $6::int[], $7::int[],
       $8::text[], $9::text[], $10::text[], $11::json[])
       AS o (id, n, result, pause_ms, at, status_code, latency_ms, error_code, error, snippet, delivery_info)
   ), logged AS (
     INSERT INTO webhook_attempts AS a (delivery_id, n, at, status_code, latency_ms, error_code, error, response_snippet,
       delivery_info)
     SELECT o.id, n, at, status_code, latency_ms, error_code, error, snippet, o.delivery_info
     FROM o JOIN webhook_deliveries USING (id) WHERE result <> 'unsent'
     -- Taken for cut off, and yet it ended.
     ON CONFLICT (delivery_id, n) DO UPDATE SET status_code = excluded.status_code, latency_ms = excluded.latency_ms,
       error_code = excluded.error_code, error = excluded.error, response_snippet = excluded.response_snippet,
       delivery_info = excluded.delivery_info
   )
   UPDATE webhook_deliveries d SET
     status = CASE WHEN o.result IN ('delivered', 'failed') THEN o.result ELSE 'pending' END,
     attempts = d.attempts - CASE WHEN o.result = 'unsent' THEN 1 ELSE 0 END,
     failures = d.failures + CASE WHEN o.result IN ('retry', 'failed') THEN 1 ELSE 0 END,
     next_attempt_at = CASE WHEN o.result IN ('retry', 'unsent')
       THEN now() + o.pause_ms * interval '1 millisecond' END,
     finished_at = CASE WHEN o.result IN ('delivered', 'failed') THEN now() END,
     sending_since = NULL
   FROM o WHERE d.id = o.id AND (o.result = 'delivered' OR (d.status = 'pending' AND d.attempts = o.n))
   RETURNING d.webhook_id AS "webhookId", o.result = 'delivered' AND (
     SELECT failing_since IS NOT NULL OR last_success_at IS NULL OR last_success_at < now() - interval '1 minute'
     FROM webhooks w WHERE w.id = d.webhook_id) AS news`;
/** Prepared, because for one row planning costs more than the execution. With many rows the best plan depends on the table sizes. */
const FINISH_ONE = prepared('webhooks.finish', `${FINISH} -- one`);

/**
 * Logs attempts and updates their deliveries. SQL: both for a whole batch in one statement.
 * @returns the webhooks whose rows have to record a success: they are marked as failing, or recorded none within the last minute
 */
export async function finishAttempts(db: EntityManager, outcomes: readonly AttemptOutcome[]): Promise<string[]> {
  const column = <K extends keyof AttemptOutcome>(key: K): AttemptOutcome[K][] => outcomes.map((o) => o[key]);
  const [rows] = await db.query<[{ webhookId: string; news: boolean }[], number]>(
    outcomes.length === 1 ? FINISH_ONE : FINISH,
    [
      column('deliveryId'),
      column('n'),
      column('result'),
      column('pauseMs'),
      column('at'),
      column('statusCode'),
      column('latencyMs'),
      column('errorCode'),
      column('error'),
      column('responseSnippet'),
      column('deliveryInfo'),
    ],
  );
  return [...new Set(rows.filter(({ news }) => news).map(({ webhookId }) => webhookId))];
}

/** Parameters for `unnest`: the webhooks, each with the position of its event (from 1), and the events. */
function columnsOf(orders: readonly DeliveryOrder[]): unknown[] {
  return [
    orders.flatMap(({ webhookIds }) => webhookIds),
    orders.flatMap(({ webhookIds }, n) => webhookIds.map(() => n + 1)),
    ...bodyColumnsOf(orders),
  ];
}

function bodyColumnsOf(bodies: readonly EventBody[]): unknown[] {
  return [
    bodies.map((b) => b.eventId),
    bodies.map((b) => b.eventType),
    bodies.map((b) => b.body),
    bodies.map((b) => b.expiresAt),
  ];
}
