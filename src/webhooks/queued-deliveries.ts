import type { Tx } from '../platform/database/index.js';
import { mayHear, type Wants } from './active-webhooks.js';
import { BATCH_TYPE } from './event-body.js';

/** Which events a webhook may get at all. */
export type Hearing = Pick<Wants, 'private_events' | 'reader_scopes'>;

/**
 * Cancels all that is queued for a webhook: it was meant for another URL or owner. What waits for a batch is recorded as a
 * cancelled delivery each.
 */
export async function cancelQueued(tx: Tx, webhookId: string): Promise<void> {
  await tx.query(
    `UPDATE webhook_deliveries SET status = 'cancelled', next_attempt_at = NULL, finished_at = now(), sending_since = NULL
     WHERE webhook_id = $1 AND status = 'pending'`,
    [webhookId],
  );
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
  const { reader_scopes: scopes } = after;
  const lost = before.reader_scopes ? before.reader_scopes.some((scope) => !scopes?.includes(scope)) : scopes !== null;
  return lost || (before.private_events && !after.private_events);
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
  await tx.query(
    `UPDATE webhook_deliveries SET status = 'failed', next_attempt_at = NULL, finished_at = now(), sending_since = NULL
     WHERE webhook_id = $1 AND status = 'pending' AND event_type = ANY ($2)`,
    [webhookId, unreadable],
  );
  await tx.query(
    `DELETE FROM webhook_batch_items i USING events e
     WHERE i.webhook_id = $1 AND i.delivery_id IS NULL AND e.id = i.event_id AND e.type = ANY ($2)`,
    [webhookId, unreadable],
  );
  // These batches may contain events it can no longer read; `recover` rebuilds them.
  await tx.query(
    `DELETE FROM webhook_deliveries WHERE webhook_id = $1 AND status <> 'delivered' AND event_type = '${BATCH_TYPE}'`,
    [webhookId],
  );
}
