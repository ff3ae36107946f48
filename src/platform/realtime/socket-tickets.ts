import type { IncomingHttpHeaders } from 'node:http';
import { Injectable } from '@nestjs/common';
import { AppError } from '../errors/index.js';

/** What a ticket stands for: the headers of a credential, and `grant`, which its issuer defines for the handler of the connection. */
export interface Redeemed {
  headers: IncomingHttpHeaders;
  grant: unknown;
  /** True when it allows less than its credential. Only routes that honour `grant` may accept it. */
  limited: boolean;
}

type Redeem = (ticket: string) => Promise<Redeemed | null>;

/** Redeems single-use tickets for sockets and event streams. The domain that issues them contributes how. */
@Injectable()
export class SocketTickets {
  private redeemer: Redeem = () => Promise.resolve(null);

  /** `redeem` uses the ticket up; null when it is not valid. */
  contribute(redeem: Redeem): void {
    this.redeemer = redeem;
  }

  /** @throws AppError `unauthenticated` when the ticket is not, or no longer, valid */
  async redeem(ticket: string): Promise<Redeemed> {
    const redeemed = await this.redeemer(ticket);
    if (redeemed) return redeemed;
    throw AppError.unauthenticated(
      'TOKEN_INVALID',
      'The ticket is not valid (any more): each opens one stream, within a minute; get a new one',
    );
  }
}
