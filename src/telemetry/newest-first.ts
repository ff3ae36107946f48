import { databaseErrorKind } from '../platform/database/index.js';

/** A stretch of time in ms: after `since`, up to and with `until`. */
export interface Stretch {
  since: number;
  until: number;
}

const FIRST_MS = 60_000;
/** A stretch that was read in less is followed by a much longer one, or by one twice as long. */
const QUICK_MS = 50;
const FAIR_MS = 300;

/**
 * Reads a time in stretches, the newest first, for as long as `budgetMs` lasts: so that few matches among very many events cost
 * a bounded time. `read` says whether it wants more.
 * @returns until when (ms, inclusive) is still unread; null when all is read or nothing more is wanted
 */
export async function readNewestFirst(
  { since, until }: Stretch,
  budgetMs: number,
  read: (stretch: Stretch) => Promise<boolean>,
  clock: () => number = () => performance.now(),
): Promise<number | null> {
  const end = clock() + budgetMs;
  let width = FIRST_MS;
  for (let at = until; at > since;) {
    const started = clock();
    if (started >= end) return at;
    const stretch = { since: Math.max(since, at - width), until: at };
    try {
      if (!(await read(stretch))) return null;
    } catch (error) {
      // Far more than expected: whoever goes on from here begins with a short stretch again.
      if (at < until && databaseErrorKind(error) === 'statement_timeout') return at;
      throw error;
    }
    at = stretch.since;
    const spent = clock() - started;
    width *= spent < QUICK_MS ? 4 : spent < FAIR_MS ? 2 : 1;
  }
  return null;
}
