import { Column, Entity, ForeignKey, Index, PrimaryColumn } from 'typeorm';
import { Session } from './session.entity.js';

/** A refresh token of a session, by its hash; a used one that comes again ends the session. */
@Entity('refresh_tokens')
@Index('refresh_tokens_session', ['sessionId'])
export class RefreshToken {
  @PrimaryColumn('bytea')
  hash!: Buffer;

  @ForeignKey(() => Session, { onDelete: 'CASCADE' })
  @Column('uuid')
  sessionId!: string;

  @Column('timestamptz', { default: () => 'now()' })
  issuedAt!: Date;

  @Column('timestamptz')
  expiresAt!: Date;

  @Column('timestamptz', { nullable: true })
  usedAt!: Date | null;
}
