import { pauseMs } from './retry-policy.js';
import type { WebhookDelivery } from './webhook-delivery.entity.js';
import type { Webhook } from './webhook.entity.js';

/** What the body of an attempt says of itself. */
export interface DeliveryInfo {
  /** From 1. */
  attempt: number;
  max_attempts: number;
  /** When this attempt fails, the next one does not come before; null when there is no next one. */
  next_retry: string | null;
}

/**
 * @param delivery with its attempts so far, this one among them, and those that failed since it was started or started over
 */
export function deliveryInfoOf(
  { attempts, failures, retryConfig }: Pick<WebhookDelivery, 'attempts' | 'failures'> & Pick<Webhook, 'retryConfig'>,
  now: Date,
): DeliveryInfo {
  const pause = pauseMs(retryConfig, failures + 1, 0, () => 0);
  return {
    attempt: attempts,
    max_attempts: attempts + Math.max(0, retryConfig.max_retries - failures),
    next_retry: pause === null ? null : new Date(now.getTime() + pause).toISOString(),
  };
}

/** The bytes of one attempt: those that are stored with the delivery, with this as their last field. */
export function withDeliveryInfo(stored: Buffer, info: DeliveryInfo): Buffer {
  const end = stored.lastIndexOf('}');
  return Buffer.concat([stored.subarray(0, end), Buffer.from(`,"delivery_info":${JSON.stringify(info)}}`)]);
}
