import pg from 'pg';
import { PreparingClient } from './prepared.js';
import { WatchedClient } from './watched-client.js';

/** Settings of PostgreSQL that a pool's statements run with, by their names. Numbers of milliseconds for timeouts. */
export type SessionSettings = Readonly<Record<string, string | number>>;

interface PoolParts {
  Client: new (config?: string | pg.ClientConfig) => pg.Client;
  onConnect?: (client: pg.ClientBase) => Promise<unknown>;
}

/**
 * Makes the connections of a pool run with `settings`. They are given by SET and not in the startup packet, whose parameter
 * `options` is refused by PgBouncer.
 * @param sharesSessions whether the pool may lead through a pooler in transaction mode. A session is then that of one
 * transaction only: the settings are set in each, and no statement is kept prepared.
 * @returns options for `pg.Pool`
 */
export function sessionOptions(settings: SessionSettings, sharesSessions = false): PoolParts {
  if (!sharesSessions) {
    // Without a limit a statement may take as long as it needs: silence means nothing then.
    const Client = settings.statement_timeout === 0 ? pg.Client : PreparingClient;
    return { Client, onConnect: (client) => client.query(statementsOf('SET', settings)) };
  }
  const local = statementsOf('SET LOCAL', settings);
  return {
    Client: class extends TransactionClient {
      protected readonly local = local;
    },
  };
}

/** @returns one SET statement for each setting; values are the program's own, never a caller's */
export function statementsOf(command: 'SET' | 'SET LOCAL', settings: SessionSettings): string {
  return Object.entries(settings)
    .map(([name, value]) => `${command} ${name} = ${value}`)
    .join('; ');
}

const BEGIN = /^\s*(BEGIN|START TRANSACTION)\s*$/i;

type Send = (query: unknown, values?: unknown, callback?: unknown) => unknown;
type Callback = (error: Error | null, result?: unknown) => void;

/** Keeps nothing in the session between transactions; a statement outside of one gets its own. */
abstract class TransactionClient extends WatchedClient {
  protected abstract readonly local: string;

  override query(query: unknown, values?: unknown, callback?: unknown): never {
    const send = super.query.bind(this) as Send;
    if (typeof query === 'string' && BEGIN.test(query)) {
      return send(`${query}; ${this.local}`, values, callback) as never;
    }
    if (isSubmittable(query)) return send(query, values, callback) as never;
    const unnamed = typeof query === 'string' ? query : { ...(query as pg.QueryConfig), name: undefined };
    if (['T', 'E'].includes(this.getTransactionStatus() ?? '')) return send(unnamed, values, callback) as never;
    const done = (typeof values === 'function' ? values : callback) as Callback | undefined;
    const running = this.runAlone(send, unnamed, typeof values === 'function' ? undefined : values);
    if (!done) return running as never;
    running.then(
      (result) => done(null, result),
      (error: Error) => done(error),
    );
    return undefined as never;
  }

  private async runAlone(send: Send, query: unknown, values: unknown): Promise<unknown> {
    await send(`BEGIN; ${this.local}`);
    try {
      const result = await send(query, values);
      await send('COMMIT');
      return result;
    } catch (error) {
      // When the connection is lost, the transaction ends with it.
      await Promise.resolve(send('ROLLBACK')).catch(() => undefined);
      throw error;
    }
  }
}

/** A query that talks to the connection itself, such as COPY; these run in transactions of their callers. */
function isSubmittable(query: unknown): boolean {
  return typeof (query as { submit?: unknown }).submit === 'function';
}
