import type { Settings } from '../config/index.js';

/** Connections for bulk writes. */
export const BULK_POOL = 6;
/** Connections that all queues of a process share. */
export const QUEUE_POOL = 6;
/** Connections of a worker; one of them listens for good. */
export const WORKER_POOL = 3;
/** Queues that have handlers. */
export const WORKER_QUEUES = 8;
const BUS = 1;

/** How many connections to PostgreSQL a process with these settings opens at most. */
export function connectionsNeeded({ dbPool, redisUrl, runsWorkers }: Settings): number {
  const requests = dbPool + BULK_POOL;
  if (redisUrl !== undefined) return requests;
  return requests + QUEUE_POOL + BUS + (runsWorkers ? WORKER_QUEUES * WORKER_POOL : 0);
}

/** PostgreSQL has no connection left for this role, in this database or at all. */
const NO_CONNECTION = '53300';

export function isOutOfConnections(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code, driverError, cause } = error as Error & { code?: string; driverError?: { code?: string } };
  return code === NO_CONNECTION || driverError?.code === NO_CONNECTION || isOutOfConnections(cause);
}
