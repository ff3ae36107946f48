import { assertRoom, type Tx } from '../platform/database/index.js';
import { publicId } from '../platform/ids/index.js';
import { Webhook } from './webhook.entity.js';
import type { WebhookDto } from './webhooks.dto.js';

export function toWebhookDto(webhook: Webhook): WebhookDto {
  const { batchSize, batchWaitMs } = webhook;
  return {
    webhook_id: publicId('webhook', webhook.id),
    url: webhook.url,
    events: webhook.events,
    filters: webhook.filters,
    active: webhook.active,
    disabled_reason: webhook.disabledReason,
    retry_config: webhook.retryConfig,
    description: webhook.description,
    created_by: webhook.createdBy,
    consecutive_failures: webhook.consecutiveFailures,
    version: webhook.version,
    batch_config: batchSize && batchWaitMs ? { max_size: batchSize, max_wait_ms: batchWaitMs } : null,
    managed_by: webhook.managedBy && publicId('sub', webhook.managedBy),
    status: webhook.active ? 'active' : webhook.disabledAt ? 'disabled' : 'paused',
    disabled_at: webhook.disabledAt?.toISOString() ?? null,
    failing_since: webhook.failingSince?.toISOString() ?? null,
    last_success_at: webhook.lastSuccessAt?.toISOString() ?? null,
    created_at: webhook.createdAt.toISOString(),
    updated_at: webhook.updatedAt.toISOString(),
  };
}

/** Activating clears the reason why it was disabled, and, when it was inactive, also its failures. */
export function switchTo(webhook: Webhook, active: boolean): void {
  if (active && !webhook.active) Object.assign(webhook, { failingSince: null, consecutiveFailures: 0 });
  if (active) Object.assign(webhook, { disabledAt: null, disabledReason: null });
  webhook.active = active;
}

/** @throws AppError `conflict` when the most allowed webhooks exist, including those of event subscriptions */
export function assertRoomForWebhook(tx: Tx, max: number): Promise<void> {
  return assertRoom(tx, { lock: 'webhooks', noun: 'webhooks', max, count: () => tx.count(Webhook) });
}
