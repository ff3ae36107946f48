import { In, Not } from 'typeorm';
import type { Tx } from '../platform/database/index.js';
import { mayHear, type Wants } from './active-webhooks.js';
import { BATCH_TYPE } from './event-body.js';
import { WebhookDelivery } from './webhook-delivery.entity.js';

/** Which events a webhook may get at all. */
export type Hearing = Pick<Wants, 'privateEvents' | 'readerScopes'>;

/**
 * Cancels all that is queued for a webhook: it was meant for another URL or owner. What waits for a batch is recorded as a
 * cancelled delivery each.
 */
export async function cancelQueued(tx: Tx, webhookId: string): Promise<void> {
  const cancelled = {
    status: 'cancelled',
    nextAttemptAt: null,
    finishedAt: () => 'now()',
    sendingSince: null,
  } as const;
  await tx.update(WebhookDelivery, { webhookId, status: 'pending' }, cancelled);
  await tx.query(
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

export function isNarrower(after: Hearing, before: Hearing): boolean {
  const { readerScopes: scopes } = after;
  const lost = before.readerScopes ? before.readerScopes.some((scope) => !scopes?.includes(scope)) : scopes !== null;
  return lost || (before.privateEvents && !after.privateEvents);
}

/** Gives up what is queued of kinds of events that a webhook may no longer get. */
export async function giveUpUnreadable(tx: Tx, webhookId: string, hearing: Hearing): Promise<void> {
  const waiting = await tx.query<{ type: string }[]>(
    `SELECT event_type AS type FROM webhook_deliveries WHERE webhook_id = $1 AND status = 'pending' GROUP BY 1
     UNION SELECT e.type FROM webhook_batch_items i JOIN events e ON e.id = i.event_id
     WHERE i.webhook_id = $1 AND i.delivery_id IS NULL`,
    [webhookId],
  );
  const unreadable = waiting.map(({ type }) => type).filter((type) => !mayHear(hearing, type));
  const givenUp = { status: 'failed', nextAttemptAt: null, finishedAt: () => 'now()', sendingSince: null } as const;
  await tx.update(WebhookDelivery, { webhookId, status: 'pending', eventType: In(unreadable) }, givenUp);
  await tx.query(
    `DELETE FROM webhook_batch_items i USING events e
     WHERE i.webhook_id = $1 AND i.delivery_id IS NULL AND e.id = i.event_id AND e.type = ANY ($2)`,
    [webhookId, unreadable],
  );
  // These batches may contain events it can no longer read; `recover` rebuilds them.
  await tx.delete(WebhookDelivery, { webhookId, status: Not('delivered'), eventType: BATCH_TYPE });
}
