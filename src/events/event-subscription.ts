import { publicId } from '../platform/http/index.js';
import type { ManagedWebhooks } from '../webhooks/index.js';
import type { DeliveryMethod, SubscriptionDto } from './event-subscriptions.dto.js';

/** A row of `event_subscriptions`. */
export interface EventSubscription {
  id: string;
  owner_id: string;
  name: string;
  event_patterns: string[];
  filters: Record<string, unknown> | null;
  delivery_method: DeliveryMethod;
  enabled: boolean;
  /** Set while it is disabled because its owner lost the right to it. */
  disabled_at: Date | null;
  version: number;
  created_at: Date;
  updated_at: Date;
}

export const SUBSCRIPTION_COLUMNS =
  'id, owner_id, name, event_patterns, filters, delivery_method, enabled, disabled_at, version, created_at, updated_at';

/** The webhook of a subscription as its own domain knows it. */
type WebhookOf = Awaited<ReturnType<ManagedWebhooks['update']>>;

export function toSubscriptionDto(row: EventSubscription, webhook?: WebhookOf, secret?: string): SubscriptionDto {
  const { id, disabled_at, created_at, updated_at, ...rest } = row;
  const { batch_size: max_size = null, batch_wait_ms: max_wait_ms = null } = webhook ?? {};
  return {
    subscription_id: publicId('sub', id),
    ...rest,
    webhook_config: webhook
      ? {
          url: webhook.url,
          retry_config: webhook.retry_config,
          webhook_id: publicId('webhook', webhook.id),
          ...(secret === undefined ? {} : { secret }),
        }
      : null,
    batch_config: max_size && max_wait_ms ? { max_size, max_wait_ms } : null,
    status:
      row.enabled && (webhook?.active ?? true)
        ? 'active'
        : (webhook?.disabled_at ?? disabled_at)
          ? 'disabled'
          : 'paused',
    created_at: created_at.toISOString(),
    updated_at: updated_at.toISOString(),
  };
}
