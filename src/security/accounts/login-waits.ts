/** Failures after which nothing came for so long are forgotten. */
export const FAILURES_KEPT_DAYS = 30;

/** Failures of one network on one account that cost no wait. */
export const FREE_FAILURES = 5;
/** Failures in a row of all unknown networks together before they are stopped. */
const MAX_FAILURES = 100;

const QUARTER_HOUR = 15 * 60;
const DAY = 24 * 3600;
/** Failures of all unknown networks together that cost no wait: owners mistype too, and from several places. */
const FREE_TOGETHER = 20;

/** Seconds to wait after the nth failure in a row, at index n - 1; the last one holds for all further failures. */
export type Waits = readonly number[];

/** A network that has never logged in: ever longer, up to a day. */
export const NETWORK_WAITS: Waits = [...free(FREE_FAILURES - 1), ...doubling(QUARTER_HOUR, DAY)];

/** A network that has logged in before: its owner is never kept out for longer, whoever shares it. */
export const KNOWN_NETWORK_WAITS: Waits = [...free(FREE_FAILURES - 1), QUARTER_HOUR];

/** All networks that have never logged in, together: slowed down by a quarter of an hour at most, then stopped. */
export const ACCOUNT_WAITS: Waits = stopAt(MAX_FAILURES, [...free(FREE_TOGETHER - 1), ...doubling(1, QUARTER_HOUR)]);

function free(count: number): number[] {
  return Array.from({ length: count }, () => 0);
}

function doubling(from: number, to: number): number[] {
  return from >= to ? [to] : [from, ...doubling(from * 2, to)];
}

function stopAt(failures: number, waits: number[]): number[] {
  return [...Array.from({ length: failures - 1 }, (_, n) => waits[Math.min(n, waits.length - 1)]), DAY];
}
