import { Column, CreateDateColumn, Entity, Index, PrimaryColumn } from 'typeorm';

/** A token with which one agent may register itself once. */
@Entity('agent_join_tokens')
@Index('agent_join_tokens_created_at', ['createdAt'])
export class JoinToken {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('bytea', { unique: true })
  hash!: Buffer;

  @Column('text')
  preview!: string;

  @Column('jsonb', { default: {} })
  labels!: Record<string, string>;

  @Column('text')
  createdBy!: string;

  @CreateDateColumn({ type: 'timestamptz', precision: 3 })
  createdAt!: Date;

  @Column('timestamptz')
  expiresAt!: Date;

  @Column('timestamptz', { nullable: true })
  usedAt!: Date | null;

  @Column('uuid', { nullable: true })
  usedByAgent!: string | null;

  @Column('timestamptz', { nullable: true })
  revokedAt!: Date | null;

  @Column('bytea', { nullable: true })
  nonceHash!: Buffer | null;

  @Column('text', { nullable: true })
  ownerCredential!: string | null;
}
