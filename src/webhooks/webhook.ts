import { assertRoom, type Tx } from '../platform/database/index.js';
import { publicId } from '../platform/http/index.js';
import { Webhook as WebhookEntity } from './webhook.entity.js';
import type { RetryConfig } from './retry-policy.js';
import type { WebhookDto } from './webhooks.dto.js';

/** A row of `webhooks`, without its secrets. */
export interface Webhook {
  id: string;
  url: string;
  events: string[];
  private_events: boolean;
  reader_scopes: string[] | null;
  /** UUID of the event subscription that it belongs to. */
  managed_by: string | null;
  filters: Record<string, unknown> | null;
  batch_size: number | null;
  batch_wait_ms: number | null;
  active: boolean;
  disabled_at: Date | null;
  disabled_reason: string | null;
  retry_config: RetryConfig;
  description: string;
  created_by: string;
  failing_since: Date | null;
  consecutive_failures: number;
  last_success_at: Date | null;
  previous_secret_until: Date | null;
  version: number;
  created_at: Date;
  updated_at: Date;
}

export const WEBHOOK_COLUMNS = `id, url, events, private_events, reader_scopes, managed_by, filters, batch_size, batch_wait_ms, active, disabled_at, disabled_reason, retry_config,
  description, created_by, failing_since, consecutive_failures, last_success_at,
  CASE WHEN previous_secret_until > now() THEN previous_secret_until END AS previous_secret_until, version, created_at, updated_at`;

export function toWebhookDto(webhook: Webhook): WebhookDto {
  const {
    id,
    private_events: _p,
    reader_scopes: _r,
    managed_by,
    batch_size,
    batch_wait_ms,
    previous_secret_until: _u,
    ...rest
  } = webhook;
  return {
    webhook_id: publicId('webhook', id),
    ...rest,
    batch_config: batch_size && batch_wait_ms ? { max_size: batch_size, max_wait_ms: batch_wait_ms } : null,
    managed_by: managed_by && publicId('sub', managed_by),
    status: webhook.active ? 'active' : webhook.disabled_at ? 'disabled' : 'paused',
    disabled_at: webhook.disabled_at?.toISOString() ?? null,
    failing_since: webhook.failing_since?.toISOString() ?? null,
    last_success_at: webhook.last_success_at?.toISOString() ?? null,
    created_at: webhook.created_at.toISOString(),
    updated_at: webhook.updated_at.toISOString(),
  };
}

/** @throws AppError `conflict` when there are as many webhooks as there may be, those of event subscriptions included */
export function assertRoomForWebhook(tx: Tx, max: number): Promise<void> {
  return assertRoom(tx, { lock: 'webhooks', noun: 'webhooks', max, count: () => tx.count(WebhookEntity) });
}
