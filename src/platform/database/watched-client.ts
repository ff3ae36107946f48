import type { Socket } from 'node:net';
import pg from 'pg';

/** Above every statement timeout of the pools: an answer that takes longer than this is not on its way. */
const SILENCE_MS = 17_000;

/**
 * A client that gives its connection up when the server stays silent while an answer is due: the timeouts of statements are kept by
 * the server, and a server that has vanished (its packets are dropped) keeps none and refuses nothing.
 */
export class WatchedClient extends pg.Client {
  constructor(config?: string | pg.ClientConfig) {
    super(config);
    // Not sooner: with TLS the socket is another one until then.
    this.once('connect', () => {
      this.stream.setTimeout(SILENCE_MS, () => {
        if (this.isIdle()) return;
        this.stream.destroy(new Error('Connection terminated: the database has not answered'));
      });
    });
  }

  /** Runs work whose statements may take longer than those of the pools. */
  async withPatience<T>(silenceMs: number, work: () => Promise<T>): Promise<T> {
    this.stream.setTimeout(silenceMs);
    try {
      return await work();
    } finally {
      this.stream.setTimeout(SILENCE_MS);
    }
  }

  private get stream(): Socket {
    return (this as unknown as { connection: { stream: Socket } }).connection.stream;
  }

  private isIdle(): boolean {
    return (this as unknown as { readyForQuery: boolean }).readyForQuery;
  }
}
