import type { Pool } from 'pg';

/**
 * A connection that the server cuts tells so by an `error` event; with nobody listening, the process ends. The pool listens
 * while a connection is idle and its user while it is in use, but both miss the moment in between (a new connection, cut
 * before its user hears of it). The pool replaces lost connections by itself.
 */
export function guardPool(pool: Pool): Pool {
  const ignore = (): void => undefined;
  pool.on('error', ignore);
  pool.on('connect', (client) => client.on('error', ignore));
  return pool;
}
