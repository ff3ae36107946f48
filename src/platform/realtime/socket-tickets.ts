import type { IncomingHttpHeaders } from 'node:http';
import { Injectable } from '@nestjs/common';

/** What a ticket stands for: the headers of a credential, and whatever its issuer wants the gateway to know. */
export interface Redeemed {
  headers: IncomingHttpHeaders;
  grant: unknown;
}

type Redeem = (ticket: string) => Promise<Redeemed | null>;

/** Where whoever issues single-use tickets for sockets says what they stand for. */
@Injectable()
export class SocketTickets {
  private redeemer: Redeem = () => Promise.resolve(null);

  /** `redeem` uses the ticket up; null when it is not valid. */
  contribute(redeem: Redeem): void {
    this.redeemer = redeem;
  }

  redeem(ticket: string): Promise<Redeemed | null> {
    return this.redeemer(ticket);
  }
}
