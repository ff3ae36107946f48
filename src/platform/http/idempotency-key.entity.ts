import { Column, CreateDateColumn, Entity, Index, PrimaryColumn } from 'typeorm';

/** The stored answer of an Idempotency-Key. While the status is null, the first request is still running. */
@Entity('idempotency_keys')
@Index('idempotency_keys_expires', ['expiresAt'])
export class IdempotencyKey {
  @PrimaryColumn('text')
  principal!: string;

  @PrimaryColumn('text')
  route!: string;

  @PrimaryColumn('text')
  key!: string;

  @Column('bytea')
  requestHash!: Buffer;

  @Column('smallint', { nullable: true })
  status!: number | null;

  @Column('jsonb', { nullable: true })
  headers!: Record<string, string> | null;

  /** Encrypted, because an answer may contain a secret. */
  @Column('text', { nullable: true })
  body!: string | null;

  @CreateDateColumn({ type: 'timestamptz' })
  createdAt!: Date;

  @Column('timestamptz')
  expiresAt!: Date;
}
