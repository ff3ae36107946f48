import { AppError } from '../errors/index.js';
import { type LockName, takeLock } from './advisory-locks.js';
import type { Tx } from './database.js';

interface Room {
  /** Lets one insert at a time in, so that none passes the limit beside another. */
  lock: LockName;
  /** What is counted, in the plural, for the refusal. */
  noun: string;
  max: number;
  /** How many there are now. */
  count: () => Promise<number>;
}

/**
 * Holds a kind of rows to a number. To be called before the insert, in its transaction.
 * @throws AppError `conflict` that names the limit
 */
export async function assertRoom(tx: Tx, { lock, noun, max, count }: Room): Promise<void> {
  await takeLock(tx, lock);
  if ((await count()) < max) return;
  throw AppError.conflict(`There are ${max} ${noun}, the most there may be; delete one first`, { limit: max });
}
