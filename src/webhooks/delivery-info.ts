import { pauseMs, type RetryConfig } from './retry-policy.js';

/** What the body of an attempt says of itself. */
export interface DeliveryInfo {
  /** From 1. */
  attempt: number;
  max_attempts: number;
  /** When this attempt fails, the next one does not come before; null when there is no next one. */
  next_retry: string | null;
}

export interface Progress {
  /** Attempts so far, with this one. */
  attempts: number;
  /** Those that failed since the delivery was started or started over. */
  failures: number;
  retry_config: RetryConfig;
}

export function deliveryInfoOf({ attempts, failures, retry_config }: Progress, now: Date): DeliveryInfo {
  const pause = pauseMs(retry_config, failures + 1, 0, () => 0);
  return {
    attempt: attempts,
    max_attempts: attempts + Math.max(0, retry_config.max_retries - failures),
    next_retry: pause === null ? null : new Date(now.getTime() + pause).toISOString(),
  };
}

/** The bytes of one attempt: those that are stored with the delivery, with this as their last field. */
export function withDeliveryInfo(stored: Buffer, info: DeliveryInfo): Buffer {
  const end = stored.lastIndexOf('}');
  return Buffer.concat([stored.subarray(0, end), Buffer.from(`,"delivery_info":${JSON.stringify(info)}}`)]);
}
