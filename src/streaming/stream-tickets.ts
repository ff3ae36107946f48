import { Injectable } from '@nestjs/common';
import { LessThan } from 'typeorm';
import type { Actor } from '../platform/context/index.js';
import {
  EncryptedColumns,
  generateOneTimeToken,
  hashKey,
  parseOneTimeToken,
  SecretBox,
} from '../platform/crypto/index.js';
import { Database, findForUpdate } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { SocketTickets } from '../platform/realtime/index.js';
import { Channels } from './channels.js';
import { StreamProblem } from './stream-problem.js';
import { StreamTicket } from './stream-ticket.entity.js';

const PREFIX = 'nexus_ticket';
/** Seconds a ticket can be used. */
export const TICKET_SECONDS = 60;

/** The channels that a ticket is limited to; null: all that its credential may read. */
export interface TicketGrant {
  channels: string[] | null;
}

/**
 * Single-use tickets that open one stream, for programs that cannot send headers. A ticket stands for the credential it was
 * issued with, and the stream ends when that credential does. The database holds the credential encrypted and the ticket as a hash.
 */
@Injectable()
@EncryptedColumns({
  table: 'stream_tickets',
  key: ['hash'],
  columns: ['credential'],
  // PostgreSQL writes bytes as \\x and hexadecimal digits.
  context: ({ hash }) => contextOf(Buffer.from(hash.slice(2), 'hex')),
})
export class StreamTickets {
  constructor(
    private readonly db: Database,
    private readonly box: SecretBox,
    private readonly known: Channels,
    sockets: SocketTickets,
  ) {
    sockets.contribute((ticket) => this.redeem(ticket));
  }

  /**
   * @param credential the text of the key or token that the caller has just used
   * @throws AppError `validation`, `forbidden` for channels that the actor may not listen to
   */
  async issue(actor: Actor, credential: string, channels: string[] | null): Promise<string> {
    const names = channels && this.channelsFor(actor, channels);
    const { token, hash } = generateOneTimeToken(PREFIX);
    await this.db.transaction(async (tx) => {
      await tx.delete(StreamTicket, { expiresAt: LessThan(new Date()) });
      await tx.insert(StreamTicket, {
        hash,
        credential: this.box.encrypt(credential, contextOf(hash)),
        channels: names,
        expiresAt: new Date(Date.now() + TICKET_SECONDS * 1000),
      });
    });
    return token;
  }

  private async redeem(
    ticket: string,
  ): Promise<{ headers: { authorization: string }; grant: TicketGrant; limited: boolean } | null> {
    if (!parseOneTimeToken(ticket, PREFIX)) return null;
    const hash = hashKey(ticket);
    const used = await this.db.transaction(async (tx) => {
      const found = await findForUpdate(tx, StreamTicket, { hash });
      if (found) await tx.delete(StreamTicket, { hash });
      return found;
    });
    if (!used || used.expiresAt <= new Date()) return null;
    const { credential, channels } = used;
    const text = this.box.decrypt(credential, contextOf(hash));
    return { headers: { authorization: `Bearer ${text}` }, grant: { channels }, limited: channels !== null };
  }

  private channelsFor(actor: Actor, names: string[]): string[] {
    try {
      return this.known.resolve(actor, names);
    } catch (error) {
      if (!(error instanceof StreamProblem)) throw error;
      if (error.code === 'INSUFFICIENT_SCOPE') throw AppError.forbidden(error.message);
      throw AppError.validation({ field: 'channels', issue: error.message, location: 'body' });
    }
  }
}

function contextOf(hash: Buffer): string {
  return `stream_tickets/${hash.toString('hex')}/credential`;
}
