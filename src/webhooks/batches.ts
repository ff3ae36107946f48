import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { Database, type Tx } from '../platform/database/index.js';
import type { DueDelivery } from './deliveries.js';
import { BATCH_TYPE, messageId } from './event-body.js';

/** An event for webhooks that take many in one delivery. */
export interface BatchItem {
  eventId: string;
  seq: string;
  body: Buffer;
  expiresAt: string | null;
  webhookIds: readonly string[];
}

interface WaitingItem {
  event_id: string;
  body: Buffer;
  expired: boolean;
  expires_at: Date | null;
  late: boolean;
}

/** Bytes of one delivery; the first event goes whatever its size. */
const MOST_BYTES = 1024 * 1024;
/** Webhooks looked after in one go; the rest a second later. */
const READY = 500;
/** Deliveries of one webhook made up in one go. */
const AT_ONCE = 50;
/** For what was left waiting by a webhook that takes no batches any more. */
const DEFAULT_SIZE = 100;

/**
 * Events that wait to go out together (row EVT-04): the delivery is made up when there are enough of them, or the first has waited long
 * enough. From then on it is a delivery like any other. A row stays behind for each event, so that a repeated one is known.
 */
@Injectable()
export class Batches {
  constructor(private readonly db: Database) {}

  /** Events that a webhook has already, waiting or sent, are left alone. @returns how many are new */
  async add(items: readonly BatchItem[]): Promise<number> {
    const pairs = items.flatMap(({ webhookIds }, n) => webhookIds.map((webhookId) => ({ webhookId, n: n + 1 })));
    const added = await this.db.query(
      `INSERT INTO webhook_batch_items (webhook_id, event_id, seq, body, expires_at)
       SELECT w.id, ($3::uuid[])[p.n], ($4::bigint[])[p.n], ($5::bytea[])[p.n], ($6::timestamptz[])[p.n]
       FROM unnest($1::uuid[], $2::int[]) AS p (webhook_id, n) JOIN webhooks w ON w.id = p.webhook_id AND w.active
       ORDER BY 1, 2
       ON CONFLICT (webhook_id, event_id) DO NOTHING RETURNING event_id`,
      [
        pairs.map((p) => p.webhookId),
        pairs.map((p) => p.n),
        items.map((i) => i.eventId),
        items.map((i) => i.seq),
        items.map((i) => i.body),
        items.map((i) => i.expiresAt),
      ],
    );
    return added.length;
  }

  /** Makes up the deliveries whose time has come. */
  async close(): Promise<DueDelivery[]> {
    const ready = await this.db.query<{ id: string }>(
      `SELECT w.id FROM webhooks w CROSS JOIN LATERAL (
         SELECT count(*) AS n, min(added_at) AS oldest FROM (
           SELECT added_at FROM webhook_batch_items
           WHERE webhook_id = w.id AND delivery_id IS NULL ORDER BY seq LIMIT coalesce(w.batch_size, 1)) AS first) AS waiting
       WHERE w.active AND waiting.n > 0 AND (waiting.n >= coalesce(w.batch_size, 1)
         OR waiting.oldest <= now() - coalesce(w.batch_wait_ms, 0) * interval '1 millisecond')
       LIMIT ${READY}`,
    );
    const made: DueDelivery[] = [];
    for (const { id } of ready) {
      for (let n = 0; n < AT_ONCE; n++) {
        const delivery = await this.db.transaction((tx) => this.closeOne(tx, id));
        if (!delivery) break;
        made.push(delivery);
      }
    }
    return made;
  }

  /** Null when there is nothing more to send yet, or another process is at it. */
  private async closeOne(tx: Tx, webhookId: string): Promise<DueDelivery | null> {
    const [webhook] = await tx.query<{ size: number; wait_ms: number; failing: boolean }[]>(
      `SELECT coalesce(batch_size, ${DEFAULT_SIZE}) AS size, coalesce(batch_wait_ms, 0) AS wait_ms,
         failing_since IS NOT NULL AS failing
       FROM webhooks WHERE id = $1 AND active FOR NO KEY UPDATE SKIP LOCKED`,
      [webhookId],
    );
    if (!webhook) return null;
    const waiting = await tx.query<WaitingItem[]>(
      `SELECT event_id, body, expires_at, coalesce(expires_at <= now(), false) AS expired,
         added_at <= now() - $3 * interval '1 millisecond' AS late
       FROM webhook_batch_items WHERE webhook_id = $1 AND delivery_id IS NULL ORDER BY seq LIMIT $2`,
      [webhookId, webhook.size, webhook.wait_ms],
    );
    if (waiting.length < webhook.size && !waiting.some(({ late }) => late)) return null;
    await this.forget(
      tx,
      webhookId,
      waiting.filter(({ expired }) => expired),
    );
    const items = upTo(
      MOST_BYTES,
      waiting.filter(({ expired }) => !expired),
    );
    if (items.length === 0) return null;
    const id = randomUUID();
    const lastEnd = items.every(({ expires_at }) => expires_at)
      ? new Date(Math.max(...items.map(({ expires_at }) => (expires_at as Date).getTime())))
      : null;
    const [delivery] = await tx.query<{ id: string }[]>(
      `INSERT INTO webhook_deliveries (webhook_id, event_id, event_type, body, expires_at)
       VALUES ($1, $2, $3, $4, $5) RETURNING id`,
      [webhookId, id, BATCH_TYPE, bodyOf(id, items), lastEnd],
    );
    await tx.query(
      `UPDATE webhook_batch_items SET delivery_id = $3, body = NULL WHERE webhook_id = $1 AND event_id = ANY ($2::uuid[])`,
      [webhookId, items.map(({ event_id }) => event_id), delivery.id],
    );
    return { id: delivery.id, webhook_id: webhookId, failing: webhook.failing };
  }

  private async forget(tx: Tx, webhookId: string, items: readonly WaitingItem[]): Promise<void> {
    if (items.length === 0) return;
    await tx.query(`DELETE FROM webhook_batch_items WHERE webhook_id = $1 AND event_id = ANY ($2::uuid[])`, [
      webhookId,
      items.map(({ event_id }) => event_id),
    ]);
  }
}

function upTo(bytes: number, items: readonly WaitingItem[]): WaitingItem[] {
  let sum = 0;
  const end = items.findIndex(({ body }, n) => (sum += body.length) > bytes && n > 0);
  return end < 0 ? [...items] : items.slice(0, end);
}

/** The events as single deliveries would have them, in their order. */
function bodyOf(id: string, items: readonly WaitingItem[]): Buffer {
  const head = { id: messageId(BATCH_TYPE, id), type: BATCH_TYPE, event_type: BATCH_TYPE };
  const start = JSON.stringify({ ...head, timestamp: new Date().toISOString() }).slice(0, -1);
  return Buffer.from(`${start},"events":[${items.map(({ body }) => body.toString('utf8')).join()}]}`);
}
