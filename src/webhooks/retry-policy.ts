/** When a failed delivery is tried again. */
export interface RetryConfig {
  /** `long`: the ladder that Standard Webhooks recommends, 8 attempts within some 28 hours. */
  preset?: 'long';
  /** Attempts after the first one. */
  max_retries: number;
  /** Pause before the first retry; twice as long before each further one. */
  retry_delay_seconds: number;
}

const DEFAULT_RETRY: RetryConfig = { max_retries: 3, retry_delay_seconds: 60 };

const LONG_LADDER = [5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 10 * 3600];
const LONGEST_PAUSE = 24 * 3600;
/** A receiver may ask for more patience, but not for more than this. */
const LONGEST_RETRY_AFTER = 6 * 3600;

/** The whole configuration from the parts a caller gives. */
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
 * Milliseconds until the next attempt after so many failed ones (from 1); null when there is none. Spread by up to a fifth, so that
 * what failed together does not come back together, and never sooner than the receiver asked for.
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

/** Seconds that a `Retry-After` header asks for (a number or a date); 0 when it asks for nothing. */
export function retryAfterSeconds(header: string | undefined, now: number): number {
  if (header === undefined) return 0;
  const seconds = /^\d{1,9}$/.test(header.trim()) ? Number(header) : (Date.parse(header) - now) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : 0;
}
