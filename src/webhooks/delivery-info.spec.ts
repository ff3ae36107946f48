import { describe, expect, it } from 'vitest';
import { deliveryInfoOf, withDeliveryInfo } from './delivery-info.js';

const NOW = new Date('2025-01-15T10:30:00.000Z');
const retryConfig = { max_retries: 2, retry_delay_seconds: 60 };

describe('what an attempt says of itself', () => {
  it('counts to the last attempt, after which there is none', () => {
    const told = [0, 1, 2].map((failures) => deliveryInfoOf({ attempts: failures + 1, failures, retryConfig }, NOW));
    expect(told).toEqual([
      { attempt: 1, max_attempts: 3, next_retry: '2025-01-15T10:31:00.000Z' },
      { attempt: 2, max_attempts: 3, next_retry: '2025-01-15T10:32:00.000Z' },
      { attempt: 3, max_attempts: 3, next_retry: null },
    ]);
  });

  it('counts on when the delivery is started over, or an attempt was cut off', () => {
    expect(deliveryInfoOf({ attempts: 4, failures: 0, retryConfig }, NOW).max_attempts).toBe(6);
    expect(deliveryInfoOf({ attempts: 3, failures: 1, retryConfig }, NOW).max_attempts).toBe(4);
  });

  it('is never beyond a limit that was lowered meanwhile', () => {
    const lowered = { max_retries: 0, retry_delay_seconds: 60 };
    const told = deliveryInfoOf({ attempts: 3, failures: 2, retryConfig: lowered }, NOW);
    expect(told).toEqual({ attempt: 3, max_attempts: 3, next_retry: null });
  });

  it('is the last field of the body, whose other bytes stay', () => {
    const stored = Buffer.from('{"id":"evt_1","data":{"text":"ünï}"}}');
    const info = { attempt: 1, max_attempts: 1, next_retry: null };
    expect(withDeliveryInfo(stored, info).toString()).toBe(
      '{"id":"evt_1","data":{"text":"ünï}"},"delivery_info":{"attempt":1,"max_attempts":1,"next_retry":null}}',
    );
  });
});
