import { WatchedClient } from './watched-client.js';

/** Names by statement. */
const kept = new Map<string, string>();

/**
 * Says of a statement that it runs for every request or so: each connection parses and plans it once and keeps it. PostgreSQL
 * spends two thirds less on a small INSERT then. Not for joins with tables that grow, whose plan depends on their size.
 * @param name unique in the server, `<domain>.<what it does>`
 * @returns the statement, for `Database.query`, `tx.query` or `Database.bulk` as ever
 */
export function prepared(name: string, sql: string): string {
  if ([...kept.values()].includes(name)) throw new Error(`Two statements are named ${name}`);
  kept.set(sql, name);
  return sql;
}

/** The client of the application's pools: it knows which statements are kept. */
export class PreparingClient extends WatchedClient {
  override query(sql: unknown, values?: unknown, callback?: unknown): never {
    const name = typeof sql === 'string' ? kept.get(sql) : undefined;
    const args = name === undefined ? [sql, values, callback] : [{ name, text: sql, values }, callback];
    return (super.query as (...args: unknown[]) => never)(...args);
  }
}
