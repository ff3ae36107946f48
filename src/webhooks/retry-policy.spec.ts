import { describe, expect, it } from 'vitest';
import { completeRetry, pauseMs, retryAfterSeconds } from './retry-policy.js';

const noSpread = (): number => 0;

describe('the retry policy', () => {
  it('doubles the pause and ends after max_retries', () => {
    const config = completeRetry({ max_retries: 3, retry_delay_seconds: 60 });
    const pauses = [1, 2, 3, 4].map((failures) => pauseMs(config, failures, 0, noSpread));
    expect(pauses).toEqual([60_000, 120_000, 240_000, null]);
  });

  it('has the documented defaults', () => {
    expect(completeRetry()).toEqual({ max_retries: 3, retry_delay_seconds: 60 });
    expect(completeRetry({ max_retries: 0 })).toEqual({ max_retries: 0, retry_delay_seconds: 60 });
  });

  it('makes 8 attempts within some 28 hours with the preset long', () => {
    const config = completeRetry({ preset: 'long' });
    const pauses = [1, 2, 3, 4, 5, 6, 7].map((failures) => pauseMs(config, failures, 0, noSpread) ?? Number.NaN);
    expect(pauses.reduce((sum, ms) => sum + ms) / 3_600_000).toBeCloseTo(27.6, 1);
    expect(pauseMs(config, 8)).toBeNull();
  });

  it('spreads by at most a fifth and never pauses more than a day and that', () => {
    const config = completeRetry({ max_retries: 20, retry_delay_seconds: 3600 });
    expect(pauseMs(config, 1, 0, () => 0.999)).toBeLessThanOrEqual(3_600_000 * 1.2);
    expect(pauseMs(config, 20, 0, noSpread)).toBe(24 * 3_600_000);
  });

  it('waits for as long as the receiver asks, up to six hours', () => {
    const config = completeRetry({ retry_delay_seconds: 1 });
    expect(pauseMs(config, 1, 90, noSpread)).toBe(90_000);
    expect(pauseMs(config, 1, 10 ** 9, noSpread)).toBe(6 * 3_600_000);
  });

  it('reads Retry-After in both forms', () => {
    const now = Date.parse('2026-01-01T00:00:00Z');
    expect(retryAfterSeconds('120', now)).toBe(120);
    expect(retryAfterSeconds('Thu, 01 Jan 2026 00:01:00 GMT', now)).toBe(60);
    expect([undefined, 'soon', '-5'].map((header) => retryAfterSeconds(header, now))).toEqual([0, 0, 0]);
  });
});
