import { publicId } from '../platform/ids/index.js';
import type { ManagedWebhooks } from '../webhooks/index.js';
import type { EventSubscription } from './event-subscription.entity.js';
import type { SubscriptionDto } from './event-subscriptions.dto.js';

/** The webhook of a subscription as its own domain knows it. */
type WebhookOf = Awaited<ReturnType<ManagedWebhooks['update']>>;

export function toSubscriptionDto(
  subscription: EventSubscription,
  webhook?: WebhookOf,
  secret?: string,
): SubscriptionDto {
  const { batchSize = null, batchWaitMs = null } = webhook ?? {};
  const works = subscription.enabled && (webhook?.active ?? true);
  const disabledAt = webhook?.disabledAt ?? subscription.disabledAt;
  return {
    subscription_id: publicId('sub', subscription.id),
    owner_id: subscription.ownerId,
    name: subscription.name,
    event_patterns: subscription.eventPatterns,
    filters: subscription.filters,
    delivery_method: subscription.deliveryMethod,
    enabled: subscription.enabled,
    webhook_config: webhook
      ? {
          url: webhook.url,
          retry_config: webhook.retryConfig,
          webhook_id: publicId('webhook', webhook.id),
          ...(secret === undefined ? {} : { secret }),
        }
      : null,
    batch_config: batchSize && batchWaitMs ? { max_size: batchSize, max_wait_ms: batchWaitMs } : null,
    status: works ? 'active' : disabledAt ? 'disabled' : 'paused',
    version: subscription.version,
    created_at: subscription.createdAt.toISOString(),
    updated_at: subscription.updatedAt.toISOString(),
  };
}
