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
      const { stream } = (this as unknown as { connection: { stream: Socket } }).connection;
      stream.setTimeout(SILENCE_MS, () => {
        if (this.isIdle()) return;
        stream.destroy(new Error('Connection terminated: the database has not answered'));
      });
    });
  }

  private isIdle(): boolean {
    return (this as unknown as { readyForQuery: boolean }).readyForQuery;
  }
}
