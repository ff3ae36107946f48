/** When a failed delivery is tried again. */
export interface RetryConfig {
  /** `long`: the schedule that Standard Webhooks recommends, 8 attempts within about 28 hours. */
  preset?: 'long';
  /** Attempts after the first one. */
  max_retries: number;
  /** Pause before the first retry. It doubles before each further one. */
  retry_delay_seconds: number;
}

const DEFAULT_RETRY: RetryConfig = { max_retries: 3, retry_delay_seconds: 60 };

const LONG_LADDER = [5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 10 * 3600];
const LONGEST_PAUSE = 24 * 3600;
/** A receiver may ask for a longer pause, but not for more than this. */
const LONGEST_RETRY_AFTER = 6 * 3600;

/** Completes the configuration of a caller with defaults. */
export function completeRetry(given: Partial<RetryConfig> = {}): RetryConfig {
  if (given.preset === 'long') {
    return { preset: 'long', max_retries: LONG_LADDER.length, retry_delay_seconds: LONG_LADDER[0] };
  }
  return {
    max_retries: given.max_retries ?? DEFAULT_RETRY.max_retries,
    retry_delay_seconds: given.retry_delay_seconds ?? DEFAULT_RETRY.retry_delay_seconds,
  };
}

/**
 * Milliseconds until the next attempt after this many failed ones (from 1); null when there is none. Varied randomly by up to a fifth,
 * so that deliveries that failed together are not retried together, and never shorter than the receiver asked for.
 */
export function pauseMs(
  config: RetryConfig,
  failures: number,
  retryAfterSeconds = 0,
  random: () => number = Math.random,
): number | null {
  if (failures > config.max_retries) return null;
  const seconds =
    config.preset === 'long'
      ? LONG_LADDER[Math.min(failures, LONG_LADDER.length) - 1]
      : Math.min(LONGEST_PAUSE, config.retry_delay_seconds * 2 ** (failures - 1));
  const asked = Math.min(LONGEST_RETRY_AFTER, retryAfterSeconds);
  return Math.round(1000 * Math.max(seconds, asked) * (1 + random() / 5));
}

/** The seconds of a `Retry-After` header, which is a number or a date; 0 without a valid one. */
export function retryAfterSeconds(header: string | undefined, now: number): number {
  if (header === undefined) return 0;
  const seconds = /^\d{1,9}$/.test(header.trim()) ? Number(header) : (Date.parse(header) - now) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : 0;
}
