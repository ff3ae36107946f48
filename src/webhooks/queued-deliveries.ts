import { type FindOptionsWhere, In, Not } from 'typeorm';
import type { Tx } from '../platform/database/index.js';
import { BATCH_TYPE } from './event-body.js';
import { WebhookDelivery } from './webhook-delivery.entity.js';
import { cancelWaitingItems, deleteWaitingItems, queuedTypes } from './webhooks.queries.js';

/** The values of a delivery that is sent again at once, with all its retries. */
export const STARTED_OVER = { status: 'pending', failures: 0, nextAttemptAt: () => 'now()', finishedAt: null } as const;

/**
 * Cancels everything queued for a webhook, because it was meant for another URL or owner. Each event that waits for a batch
 * becomes a cancelled delivery.
 */
export async function cancelQueued(tx: Tx, webhookId: string): Promise<void> {
  await endQueued(tx, webhookId, 'cancelled');
  await cancelWaitingItems(tx, webhookId);
}

/** Gives up what is queued of kinds of events that a webhook may no longer get. */
export async function giveUpUnreadable(tx: Tx, webhookId: string, mayRead: (type: string) => boolean): Promise<void> {
  const unreadable = (await queuedTypes(tx, webhookId)).filter((type) => !mayRead(type));
  await endQueued(tx, webhookId, 'failed', { eventType: In(unreadable) });
  await deleteWaitingItems(tx, webhookId, unreadable);
  // These batches may contain events it can no longer read; `recover` rebuilds them.
  await tx.delete(WebhookDelivery, { webhookId, status: Not('delivered'), eventType: BATCH_TYPE });
}

/** Ends the pending deliveries to a webhook. */
export async function endQueued(
  tx: Tx,
  webhookId: string,
  status: 'failed' | 'cancelled',
  which: FindOptionsWhere<WebhookDelivery> = {},
): Promise<void> {
  const ended = { status, nextAttemptAt: null, finishedAt: () => 'now()', sendingSince: null };
  await tx.update(WebhookDelivery, { ...which, webhookId, status: 'pending' }, ended);
}
