import { Injectable } from '@nestjs/common';
import { Database, type Tx } from '../platform/database/index.js';
import { isExpired, type StoredEvent } from '../platform/events/index.js';
import { ActiveWebhooks } from './active-webhooks.js';
import type { EventBody } from './deliveries.js';
import { bodyOf } from './event-body.js';

/** For other domains: delivers again what was delivered or missed (row EVT-07). */
@Injectable()
export class WebhookReplays {
  constructor(
    private readonly db: Database,
    private readonly active: ActiveWebhooks,
  ) {}

  /** Of these UUIDs those that name no active webhook. */
  async unknown(ids: readonly string[]): Promise<string[]> {
    const rows = await this.db.query<{ id: string }>(
      `SELECT id FROM unnest($1::uuid[]) AS asked (id)
       WHERE NOT EXISTS (SELECT 1 FROM webhooks w WHERE w.id = asked.id AND w.active)`,
      [ids],
    );
    return rows.map(({ id }) => id);
  }

  /**
   * Starts the deliveries of these events over, each with the id and body it had, and makes those that are missing. Each webhook gets only what it
   * asked for; what is on its way to it at the moment is left alone.
   * @param webhookIds UUIDs; null: all webhooks
   * @returns how many deliveries there are to make
   */
  async replay(
    tx: Tx,
    replayId: string,
    webhookIds: readonly string[] | null,
    events: readonly StoredEvent[],
  ): Promise<number> {
    const pairs: { webhookId: string; n: number }[] = [];
    const bodies: EventBody[] = [];
    for (const event of events.filter((one) => !isExpired(one))) {
      const places = new Map<string, number>();
      for (const { id, type } of await this.active.matching(event)) {
        if (webhookIds !== null && !webhookIds.includes(id)) continue;
        const n = places.get(type) ?? bodies.push(bodyOf({ ...event, type }));
        places.set(type, n);
        pairs.push({ webhookId: id, n });
      }
    }
    if (pairs.length === 0) return 0;
    const rows = await tx.query<object[]>(
      `INSERT INTO webhook_deliveries AS d (webhook_id, event_id, event_type, body, expires_at, replay_id)
       SELECT w.id, ($3::uuid[])[p.n], ($4::text[])[p.n], ($5::bytea[])[p.n], ($6::timestamptz[])[p.n], $7
       FROM unnest($1::uuid[], $2::int[]) AS p (webhook_id, n) JOIN webhooks w ON w.id = p.webhook_id AND w.active
       ORDER BY w.id, 2
       ON CONFLICT (webhook_id, event_id) DO UPDATE SET status = 'pending', failures = 0, next_attempt_at = now(),
         finished_at = NULL, replay_id = excluded.replay_id WHERE d.status <> 'pending'
       RETURNING d.id`,
      [
        pairs.map((p) => p.webhookId),
        pairs.map((p) => p.n),
        bodies.map((b) => b.eventId),
        bodies.map((b) => b.eventType),
        bodies.map((b) => b.body),
        bodies.map((b) => b.expiresAt),
        replayId,
      ],
    );
    return rows.length;
  }

  /** What came of the deliveries of a replay so far; one that was sent again since counts no more. */
  async outcome(replayId: string): Promise<{ pending: number; delivered: number; failed: number }> {
    const [counts] = await this.db.query<{ pending: number; delivered: number; failed: number }>(
      `SELECT count(*) FILTER (WHERE status = 'pending')::int AS pending,
         count(*) FILTER (WHERE status = 'delivered')::int AS delivered,
         count(*) FILTER (WHERE status = 'failed')::int AS failed
       FROM webhook_deliveries WHERE replay_id = $1`,
      [replayId],
    );
    return counts;
  }

  /** Of these events (UUIDs) those that are still to be delivered to somebody. */
  async undelivered(tx: Tx, eventIds: readonly string[]): Promise<Set<string>> {
    const rows = await tx.query<{ event_id: string }[]>(
      `SELECT event_id FROM webhook_deliveries WHERE event_id = ANY ($1::uuid[]) AND status = 'pending'
       UNION SELECT event_id FROM webhook_batch_items WHERE event_id = ANY ($1::uuid[]) AND delivery_id IS NULL`,
      [eventIds],
    );
    return new Set(rows.map(({ event_id }) => event_id));
  }
}
