import { Injectable } from '@nestjs/common';
import { Database, type Tx } from '../../platform/database/index.js';
import { Bus } from '../../platform/realtime/index.js';

/** Public ids of what has lost its rights: one credential, or everything an actor holds. */
export interface Revoked {
  actorId?: string;
  credentialId?: string;
}

const CHANNEL = 'security.revoked';

/** Tells every process that rights were taken away or changed. */
@Injectable()
export class Revocations {
  constructor(
    private readonly db: Database,
    private readonly bus: Bus,
  ) {}

  /** Announced once `tx` commits and before the call that revoked returns. */
  announce(tx: Tx, revoked: Revoked[]): void {
    this.db.afterCommit(tx, () => {
      for (const one of revoked) this.bus.publish(CHANNEL, one);
    });
  }

  /**
   * The listener also gets an empty message after the bus was away, as messages may have been lost.
   * @returns a function that ends the subscription
   */
  subscribe(listener: (revoked: Revoked) => void): () => void {
    const ends = [this.bus.subscribe<Revoked>(CHANNEL, listener), this.bus.onReconnect(() => listener({}))];
    return () => ends.forEach((end) => end());
  }
}
