import { Injectable } from '@nestjs/common';
import { Database } from '../platform/database/index.js';
import { publicId } from '../platform/http/index.js';
import { ActiveWebhooks, typeFor, type WantedEvent, type Wants, WANTS_COLUMNS } from './active-webhooks.js';
import { Courier } from './courier.js';
import { Deliveries } from './deliveries.js';
import { bodyOf, type TellableEvent } from './event-body.js';

export interface EventDelivery {
  delivery_id: string;
  webhook_id: string;
  status: 'pending' | 'delivered' | 'failed' | 'cancelled';
  attempts: number;
  last_status_code: number | null;
  last_error: string | null;
  next_attempt_at: string | null;
  finished_at: string | null;
}

export interface DeliveryCounts {
  total: number;
  pending: number;
  delivered: number;
  failed: number;
}

const SHOWN = 100;

type Row = Omit<EventDelivery, 'delivery_id' | 'webhook_id' | 'next_attempt_at' | 'finished_at'> & {
  id: string;
  webhook_id: string;
  next_attempt_at: Date | null;
  finished_at: Date | null;
};

/** For other domains: to whom an event was or will be delivered (row EVT-03), and who else is to get it. */
@Injectable()
export class EventDeliveries {
  constructor(
    private readonly db: Database,
    private readonly active: ActiveWebhooks,
    private readonly deliveries: Deliveries,
    private readonly courier: Courier,
  ) {}

  /** How many webhooks want an event at the moment. */
  async countWanting(event: WantedEvent): Promise<number> {
    return (await this.active.matching(event)).length;
  }

  /** Whether there is a webhook with this UUID. */
  async knows(webhookId: string): Promise<boolean> {
    return (await this.db.query('SELECT 1 FROM webhooks WHERE id = $1', [webhookId])).length > 0;
  }

  /**
   * Delivers an event to a webhook whether it asked for it or not; once, however often it is told to.
   * @returns false when there is no such webhook, or it is not active
   */
  async deliverTo(webhookId: string, event: TellableEvent): Promise<boolean> {
    const [webhook] = await this.db.query<Wants>(`SELECT ${WANTS_COLUMNS} FROM webhooks WHERE id = $1 AND active`, [
      webhookId,
    ]);
    if (!webhook) return false;
    const type = typeFor(webhook, event.type) ?? event.type;
    this.courier.offer(await this.deliveries.add([{ ...bodyOf({ ...event, type }), webhookIds: [webhookId] }]));
    return true;
  }

  /** An event that waits in a batch counts as pending. */
  async countOf(eventId: string): Promise<DeliveryCounts> {
    const [counts] = await this.db.query<DeliveryCounts>(
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

  /** The first hundred, the newest first; those in a batch once it is made up. */
  async of(eventId: string): Promise<EventDelivery[]> {
    const rows = await this.db.query<Row>(
      `SELECT d.id, d.webhook_id, d.status, d.attempts, a.status_code AS last_status_code, a.error AS last_error,
         d.next_attempt_at, d.finished_at
       FROM webhook_deliveries d LEFT JOIN webhook_attempts a ON a.delivery_id = d.id AND a.n = d.attempts
       WHERE d.event_id = $1 OR d.id IN (SELECT delivery_id FROM webhook_batch_items WHERE event_id = $1)
       ORDER BY d.created_at DESC, d.id DESC LIMIT ${SHOWN}`,
      [eventId],
    );
    return rows.map(({ id, webhook_id, next_attempt_at, finished_at, ...rest }) => ({
      delivery_id: publicId('dlv', id),
      webhook_id: publicId('webhook', webhook_id),
      ...rest,
      next_attempt_at: next_attempt_at?.toISOString() ?? null,
      finished_at: finished_at?.toISOString() ?? null,
    }));
  }
}
