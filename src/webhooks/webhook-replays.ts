import { Injectable } from '@nestjs/common';
import { In, IsNull } from 'typeorm';
import { Database, type Tx } from '../platform/database/index.js';
import { isExpired, type StoredEvent } from '../platform/events/index.js';
import { ActiveWebhooks } from './active-webhooks.js';
import { type DeliveryOrder, replayDeliveries } from './deliveries.queries.js';
import { bodyOf } from './event-body.js';
import { WebhookBatchItem } from './webhook-batch-item.entity.js';
import { WebhookDelivery } from './webhook-delivery.entity.js';
import { Webhook } from './webhook.entity.js';
import { replayCounts } from './webhooks.queries.js';

/** For other domains: delivers past events again. */
@Injectable()
export class WebhookReplays {
  constructor(
    private readonly db: Database,
    private readonly active: ActiveWebhooks,
  ) {}

  /** The UUIDs among these that do not name an active webhook. */
  async unknown(ids: readonly string[]): Promise<string[]> {
    const found = await this.db
      .repository(Webhook)
      .find({ select: { id: true }, where: { id: In([...ids]), active: true } });
    const active = new Set(found.map(({ id }) => id));
    return ids.filter((id) => !active.has(id));
  }

  /**
   * Restarts the deliveries of these events, each with its id and body, and adds missing ones. Each webhook gets only events that it
   * subscribed to. Pending deliveries are not changed.
   * @param webhookIds UUIDs; null: all webhooks
   * @returns how many deliveries were restarted or added
   */
  async replay(
    tx: Tx,
    replayId: string,
    webhookIds: readonly string[] | null,
    events: readonly StoredEvent[],
  ): Promise<number> {
    const orders: DeliveryOrder[] = [];
    for (const event of events.filter((one) => !isExpired(one))) {
      const byType = new Map<string, string[]>();
      for (const { id, type } of await this.active.matching(event)) {
        if (webhookIds !== null && !webhookIds.includes(id)) continue;
        byType.set(type, [...(byType.get(type) ?? []), id]);
      }
      for (const [type, ids] of byType) orders.push({ ...bodyOf({ ...event, type }), webhookIds: ids });
    }
    return orders.length === 0 ? 0 : replayDeliveries(tx, replayId, orders);
  }

  /** The current results of the deliveries of a replay, without those that were restarted for another reason since. */
  outcome(replayId: string): Promise<{ pending: number; delivered: number; failed: number }> {
    return replayCounts(this.db.manager, replayId);
  }

  /** The events among these (UUIDs) that still have to be delivered to a webhook. */
  async undelivered(tx: Tx, eventIds: readonly string[]): Promise<Set<string>> {
    const [eventId, select] = [In([...eventIds]), { eventId: true } as const];
    const pending = await tx.find(WebhookDelivery, { select, where: { eventId, status: 'pending' } });
    const waiting = await tx.find(WebhookBatchItem, { select, where: { eventId, deliveryId: IsNull() } });
    return new Set([...pending, ...waiting].map((row) => row.eventId));
  }
}
