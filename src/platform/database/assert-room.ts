import { AppError } from '../errors/index.js';
import { advisoryLock, type LockName } from './advisory-locks.js';
import type { Tx } from './database.js';

interface Room {
  /** Lets one insert at a time in, so that none passes the limit beside another. */
  lock: LockName;
  /** What is counted, in the plural, for the refusal. */
  noun: string;
  max: number;
  /** Text of a statement that counts them as `count`. */
  count: string;
  params?: unknown[];
}

/**
 * Holds a kind of rows to a number. To be called before the insert, in its transaction.
 * @throws AppError `conflict` that names the limit
 */
export async function assertRoom(tx: Tx, { lock, noun, max, count, params }: Room): Promise<void> {
  await tx.query('SELECT pg_advisory_xact_lock($1)', [advisoryLock(lock)]);
  const [found] = await tx.query<{ count: number }[]>(count, params);
  if (found.count < max) return;
  throw AppError.conflict(`There are ${max} ${noun}, the most there may be; delete one first`, { limit: max });
}
