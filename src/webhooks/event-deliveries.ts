import { Injectable } from '@nestjs/common';
import { Database } from '../platform/database/index.js';
import { publicId } from '../platform/ids/index.js';
import { ActiveWebhooks, type WantedEvent } from './active-webhooks.js';
import { Courier } from './courier.js';
import { addDeliveries } from './deliveries.queries.js';
import { bodyOf, type TellableEvent } from './event-body.js';
import type { WebhookDelivery } from './webhook-delivery.entity.js';
import { Webhook } from './webhook.entity.js';
import { deliveriesOfEvent, type DeliveryCounts, eventCounts } from './webhooks.queries.js';

export interface EventDelivery {
  delivery_id: string;
  webhook_id: string;
  status: WebhookDelivery['status'];
  attempts: number;
  last_status_code: number | null;
  last_error: string | null;
  next_attempt_at: string | null;
  finished_at: string | null;
}

const MAX_SHOWN = 100;

/** For other domains: shows the deliveries of an event, and delivers an event to further webhooks. */
@Injectable()
export class EventDeliveries {
  constructor(
    private readonly db: Database,
    private readonly active: ActiveWebhooks,
    private readonly courier: Courier,
  ) {}

  /** How many webhooks currently want an event. */
  async countWanting(event: WantedEvent): Promise<number> {
    return (await this.active.matching(event)).length;
  }

  /** Whether there is a webhook with this UUID. */
  knows(webhookId: string): Promise<boolean> {
    return this.db.repository(Webhook).existsBy({ id: webhookId });
  }

  /**
   * Delivers an event to a webhook, even if the webhook did not subscribe to it. Repeated calls deliver it once.
   * @returns false when there is no such webhook or it is not active
   */
  async deliverTo(webhookId: string, event: TellableEvent): Promise<boolean> {
    const webhook = await this.db.repository(Webhook).findOneBy({ id: webhookId, active: true });
    if (!webhook) return false;
    const type = this.active.typeFor(webhook, event.type) ?? event.type;
    const order = { ...bodyOf({ ...event, type }), webhookIds: [webhookId] };
    this.courier.offer(await addDeliveries(this.db.manager, [order]));
    return true;
  }

  /** An event that waits in a batch counts as pending. */
  countOf(eventId: string): Promise<DeliveryCounts> {
    return eventCounts(this.db.manager, eventId);
  }

  /** At most a hundred deliveries of an event, the newest first. Those in a batch appear once the batch is made. */
  async of(eventId: string): Promise<EventDelivery[]> {
    const rows = await deliveriesOfEvent(this.db.manager, eventId, MAX_SHOWN);
    return rows.map((row) => ({
      delivery_id: publicId('dlv', row.id),
      webhook_id: publicId('webhook', row.webhookId),
      status: row.status,
      attempts: row.attempts,
      last_status_code: row.lastStatusCode,
      last_error: row.lastError,
      next_attempt_at: row.nextAttemptAt?.toISOString() ?? null,
      finished_at: row.finishedAt?.toISOString() ?? null,
    }));
  }
}
