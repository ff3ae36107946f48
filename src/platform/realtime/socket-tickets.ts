import type { IncomingHttpHeaders } from 'node:http';
import { Injectable } from '@nestjs/common';
import { AppError } from '../errors/index.js';

/** What a ticket stands for: the headers of a credential, and whatever its issuer wants who serves it to know. */
export interface Redeemed {
  headers: IncomingHttpHeaders;
  grant: unknown;
  /** It is good for less than its credential: only what reads `grant` may take it. */
  limited: boolean;
}

type Redeem = (ticket: string) => Promise<Redeemed | null>;

/** Where whoever issues single-use tickets for sockets and event streams says what they stand for. */
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
