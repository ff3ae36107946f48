import { Column, Entity, Index, PrimaryColumn } from 'typeorm';

/** A ticket that opens one stream in place of a credential. */
@Entity('stream_tickets')
@Index('stream_tickets_expires_at', ['expiresAt'])
export class StreamTicket {
  @PrimaryColumn('bytea')
  hash!: Buffer;

  @Column('text')
  credential!: string;

  @Column('text', { array: true, nullable: true })
  channels!: string[] | null;

  @Column('timestamptz')
  expiresAt!: Date;
}
