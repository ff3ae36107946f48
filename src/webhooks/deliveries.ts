import { Injectable } from '@nestjs/common';
import { Database, prepared, type Tx } from '../platform/database/index.js';
import type { RetryConfig } from './retry-policy.js';

/** A delivery that somebody may send now. */
export interface DueDelivery {
  id: string;
  webhook_id: string;
  /** Whether the last attempts to this webhook failed. */
  failing: boolean;
}

/** A delivery that this process alone may send until its lease ends. */
export interface ClaimedDelivery {
  id: string;
  webhook_id: string;
  event_id: string;
  event_type: string;
  body: Buffer;
  /** Number of this attempt, from 1. */
  attempts: number;
  /** Attempts that failed before. */
  failures: number;
  /** From then on it is not sent any more. */
  expires_at: Date | null;
  /** UUID of the replay it is sent for. */
  replay_id: string | null;
  url: string;
  retry_config: RetryConfig;
  secret_box: string;
  /** Null when no older secret is valid any more. */
  previous_secret_box: string | null;
}

/** Error code of a delivery that was not sent because its event had expired. */
export const EVENT_EXPIRED = 'EXPIRED';

/** What came of one attempt. `unsent`: the request was never made; it counts as no attempt. */
export interface AttemptOutcome {
  id: string;
  webhookId: string;
  n: number;
  result: 'delivered' | 'retry' | 'failed' | 'unsent';
  /** Milliseconds until the next attempt, with `retry` and `unsent`. */
  pauseMs: number;
  startedAt: Date;
  statusCode: number | null;
  latencyMs: number | null;
  errorCode: string | null;
  error: string | null;
  snippet: string | null;
  /** What the body said of the attempt, as it was sent; null when nothing was. */
  deliveryInfo: string | null;
}

export interface EventBody {
  eventId: string;
  eventType: string;
  body: Buffer;
  /** ISO 8601; null: never. */
  expiresAt: string | null;
}

export interface DeliveryOrder extends EventBody {
  webhookIds: readonly string[];
}

/** An attempt that has not reported back after this was cut off with its process. Longer than any attempt may take. */
const LEASE_SECONDS = 45;
const SWEEP_PER_WEBHOOK = 300;
/** Of a webhook that fails: it gets one request at a time, and what is left waiting in memory is dropped with each pause. */
const SWEEP_PER_FAILING = 20;
const SWEEP = 5000;

const ADD = prepared(
  'webhooks.add',
  `INSERT INTO webhook_deliveries AS d (webhook_id, event_id, event_type, body, expires_at)
   SELECT w.id, ($3::uuid[])[p.n], ($4::text[])[p.n], ($5::bytea[])[p.n], ($6::timestamptz[])[p.n]
   FROM unnest($1::uuid[], $2::int[]) AS p (webhook_id, n) JOIN webhooks w ON w.id = p.webhook_id AND w.active
   ORDER BY w.id, 2 FOR SHARE OF w
   ON CONFLICT (webhook_id, event_id) DO NOTHING
   RETURNING d.id, d.webhook_id, (SELECT failing_since IS NOT NULL FROM webhooks w WHERE w.id = d.webhook_id) AS failing`,
);
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
   RETURNING d.id, d.webhook_id, d.event_id, d.event_type, d.body, d.attempts, d.failures, d.expires_at, d.replay_id, w.url, w.retry_config,
     w.secret_box, CASE WHEN w.previous_secret_until > now() THEN w.previous_secret_box END AS previous_secret_box`,
);
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
   RETURNING d.webhook_id, o.result = 'delivered' AND (
     SELECT failing_since IS NOT NULL OR last_success_at IS NULL OR last_success_at < now() - interval '1 minute'
     FROM webhooks w WHERE w.id = d.webhook_id) AS news`;
/** Its plan is kept: with few at a time planning costs more than the rest. Of many it depends on the size of the tables. */
const FINISH_ONE = prepared('webhooks.finish', `${FINISH} -- one`);

/** The rows of deliveries and attempts. Every attempt is claimed before and logged after it, both in batches. */
@Injectable()
export class Deliveries {
  constructor(private readonly db: Database) {}

  /**
   * One delivery per event and active webhook; those that exist are left alone. Until `tx` ends no such webhook can be disabled: what gives
   * up its waiting deliveries would miss these.
   */
  add(orders: readonly DeliveryOrder[], tx: Tx = this.db.manager): Promise<DueDelivery[]> {
    const pairs = orders.flatMap(({ webhookIds }, n) => webhookIds.map((webhookId) => ({ webhookId, n: n + 1 })));
    return tx.query<DueDelivery[]>(ADD, [
      pairs.map((p) => p.webhookId),
      pairs.map((p) => p.n),
      orders.map((o) => o.eventId),
      orders.map((o) => o.eventType),
      orders.map((o) => o.body),
      orders.map((o) => o.expiresAt),
    ]);
  }

  /** For one webhook: adds what is missing and starts over what has failed or was cancelled. */
  async recover(webhookId: string, events: readonly EventBody[]): Promise<number> {
    const rows = await this.db.query<{ id: string }>(
      `INSERT INTO webhook_deliveries AS d (webhook_id, event_id, event_type, body, expires_at)
       SELECT w.id, e.id, e.type, e.body, e.expires_at
       FROM webhooks w, unnest($2::uuid[], $3::text[], $4::bytea[], $5::timestamptz[]) AS e (id, type, body, expires_at)
       WHERE w.id = $1 AND w.active
       ON CONFLICT (webhook_id, event_id) DO UPDATE
         SET status = 'pending', failures = 0, next_attempt_at = now(), finished_at = NULL
         WHERE d.status IN ('failed', 'cancelled')
       RETURNING d.id`,
      [
        webhookId,
        events.map((e) => e.eventId),
        events.map((e) => e.eventType),
        events.map((e) => e.body),
        events.map((e) => e.expiresAt),
      ],
    );
    return rows.length;
  }

  /** Starts over the failed deliveries of one kind since a time. */
  async restart(webhookId: string, eventType: string, since: string): Promise<number> {
    const [, count] = await this.db.query<unknown>(
      `UPDATE webhook_deliveries SET status = 'pending', failures = 0, next_attempt_at = now(), finished_at = NULL
       WHERE webhook_id = $1 AND event_type = $2 AND created_at >= $3 AND status = 'failed'`,
      [webhookId, eventType, since],
    );
    return Number(count);
  }

  /** Some of what is due of each webhook but these, so that none of them holds up the others. */
  due(except: readonly string[]): Promise<DueDelivery[]> {
    return this.db.query<DueDelivery>(
      `SELECT d.id, w.id AS webhook_id, w.failing_since IS NOT NULL AS failing
       FROM webhooks w CROSS JOIN LATERAL (
         SELECT id FROM webhook_deliveries
         WHERE webhook_id = w.id AND status = 'pending' AND next_attempt_at <= now()
         ORDER BY next_attempt_at
         LIMIT CASE WHEN w.failing_since IS NULL THEN ${SWEEP_PER_WEBHOOK} ELSE ${SWEEP_PER_FAILING} END) d
       WHERE w.active AND w.id <> ALL ($1::uuid[]) LIMIT ${SWEEP}`,
      [except],
    );
  }

  /** Makes the next attempt of these ours. What is not due, not active or another's is left out. */
  async claim(ids: readonly string[]): Promise<ClaimedDelivery[]> {
    const [rows] = await this.db.query<ClaimedDelivery[]>(CLAIM, [ids]);
    return rows;
  }

  /**
   * Logs attempts and moves their deliveries on, in one statement.
   * @returns the webhooks of whose success their rows do not tell: they say that it fails, or have noted none for a minute
   */
  async finish(outcomes: readonly AttemptOutcome[]): Promise<string[]> {
    const column = <K extends keyof AttemptOutcome>(key: K): AttemptOutcome[K][] => outcomes.map((o) => o[key]);
    const [rows] = await this.db.query<{ webhook_id: string; news: boolean }[]>(
      outcomes.length === 1 ? FINISH_ONE : FINISH,
      [
        column('id'),
        column('n'),
        column('result'),
        column('pauseMs'),
        column('startedAt'),
        column('statusCode'),
        column('latencyMs'),
        column('errorCode'),
        column('error'),
        column('snippet'),
        column('deliveryInfo'),
      ],
    );
    return [...new Set(rows.filter(({ news }) => news).map(({ webhook_id }) => webhook_id))];
  }
}
