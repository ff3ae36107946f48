import { pauseMs } from './retry-policy.js';
import type { WebhookDelivery } from './webhook-delivery.entity.js';
import type { Webhook } from './webhook.entity.js';

/** The part of the body that describes the attempt. */
export interface DeliveryInfo {
  /** Counted from 1. */
  attempt: number;
  max_attempts: number;
  /** If this attempt fails, the next one comes no earlier than this; null when there is no next one. */
  next_retry: string | null;
}

/**
 * @param delivery with all its attempts, including this one, and the failed ones since it was started or restarted
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

/** The bytes of one attempt: the stored body with `delivery_info` added as its last field. */
export function withDeliveryInfo(stored: Buffer, info: DeliveryInfo): Buffer {
  const end = stored.lastIndexOf('}');
  return Buffer.concat([stored.subarray(0, end), Buffer.from(`,"delivery_info":${JSON.stringify(info)}}`)]);
}
