import type { Settings } from '../config/index.js';
import { databaseErrorKind } from './database-error.js';

/** Connections for bulk writes. */
export const BULK_POOL = 6;
/** Connections that all queues of a process share. */
export const QUEUE_POOL = 6;
/** Connections of a worker; one of them listens for good. */
export const WORKER_POOL = 3;
/** Queues that have handlers. */
export const WORKER_QUEUES = 10;
const BUS = 1;

interface Connections {
  /** For transactions: a pooler may share them out. */
  transactions: number;
  /** With a session of their own. */
  sessions: number;
  all: number;
}

/** How many connections to PostgreSQL a process with these settings opens at most. */
export function connectionsNeeded({ dbPool, redisUrl, runsWorkers }: Settings): Connections {
  const transactions = dbPool + BULK_POOL;
  const queues = QUEUE_POOL + BUS + (runsWorkers ? WORKER_QUEUES * WORKER_POOL : 0);
  const sessions = redisUrl === undefined ? queues : 0;
  return { transactions, sessions, all: transactions + sessions };
}

/** PostgreSQL has no connection left for this role, in this database or at all. */
export function isOutOfConnections(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return databaseErrorKind(error) === 'too_many_connections' || isOutOfConnections(error.cause);
}
