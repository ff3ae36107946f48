import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { In } from 'typeorm';
import { Database, insertRow, type Tx } from '../platform/database/index.js';
import type { DueDelivery } from './deliveries.queries.js';
import { BATCH_TYPE, messageId } from './event-body.js';
import { WebhookBatchItem } from './webhook-batch-item.entity.js';
import { WebhookDelivery } from './webhook-delivery.entity.js';
import { Webhook } from './webhook.entity.js';
import { type WaitingItem, waitingItems, webhooksWithDueBatch } from './webhooks.queries.js';

/** Most bytes of one delivery. A single event may be larger. */
const MAX_BYTES = 1024 * 1024;
/** Webhooks handled in one round. The others follow a second later. */
const MAX_WEBHOOKS = 500;
/** Most deliveries made for one webhook in one round. */
const BATCHES_PER_WEBHOOK = 50;
/** For events that still wait for a batch after the webhook stopped taking batches. */
const DEFAULT_BATCH_SIZE = 100;

/**
 * Collects events for one common delivery, which is made when there are enough of them or the first has waited long enough.
 * Then it is an ordinary delivery. The row of each event remains, so that a repeated event is recognised.
 */
@Injectable()
export class Batches {
  constructor(private readonly db: Database) {}

  /** Makes the deliveries of all batches that are due. */
  async close(): Promise<DueDelivery[]> {
    const ready = await webhooksWithDueBatch(this.db.manager, MAX_WEBHOOKS);
    const made: DueDelivery[] = [];
    for (const id of ready) {
      for (let n = 0; n < BATCHES_PER_WEBHOOK; n++) {
        const delivery = await this.db.transaction((tx) => this.closeOne(tx, id));
        if (!delivery) break;
        made.push(delivery);
      }
    }
    return made;
  }

  /** Makes one delivery. Null when no batch is due, or another process is making it. */
  private async closeOne(tx: Tx, webhookId: string): Promise<DueDelivery | null> {
    const lock = { mode: 'for_no_key_update', onLocked: 'skip_locked' } as const;
    const webhook = await tx.findOne(Webhook, { where: { id: webhookId, active: true }, lock });
    if (!webhook) return null;
    const limit = webhook.batchSize ?? DEFAULT_BATCH_SIZE;
    const waiting = await waitingItems(tx, webhookId, { waitMs: webhook.batchWaitMs ?? 0, limit });
    if (waiting.length < limit && !waiting.some(({ late }) => late)) return null;
    const expired = waiting.filter((item) => item.expired);
    if (expired.length > 0) await tx.delete(WebhookBatchItem, { webhookId, eventId: In(idsOf(expired)) });
    const items = upTo(
      MAX_BYTES,
      waiting.filter((item) => !item.expired),
    );
    if (items.length === 0) return null;
    const eventId = randomUUID();
    const ends = items.map(({ expiresAt }) => expiresAt?.getTime() ?? Infinity);
    const lastEnd = Math.max(...ends);
    const { id } = await insertRow(tx, WebhookDelivery, {
      webhookId,
      eventId,
      eventType: BATCH_TYPE,
      body: bodyOf(eventId, items),
      expiresAt: Number.isFinite(lastEnd) ? new Date(lastEnd) : null,
    });
    await tx.update(WebhookBatchItem, { webhookId, eventId: In(idsOf(items)) }, { deliveryId: id, body: null });
    return { id, webhookId, failing: webhook.failingSince !== null };
  }
}

function idsOf(items: readonly WaitingItem[]): string[] {
  return items.map(({ eventId }) => eventId);
}

function upTo(bytes: number, items: readonly WaitingItem[]): WaitingItem[] {
  let sum = 0;
  const end = items.findIndex(({ body }, n) => (sum += body.length) > bytes && n > 0);
  return end < 0 ? [...items] : items.slice(0, end);
}

/** The body of a batch. It has the events in order, each as in a delivery of its own. */
function bodyOf(id: string, items: readonly WaitingItem[]): Buffer {
  const head = { id: messageId(BATCH_TYPE, id), type: BATCH_TYPE, event_type: BATCH_TYPE };
  const start = JSON.stringify({ ...head, timestamp: new Date().toISOString() }).slice(0, -1);
  return Buffer.from(`${start},"events":[${items.map(({ body }) => body.toString('utf8')).join()}]}`);
}
