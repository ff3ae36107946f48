import {
  Check,
  Column,
  CreateDateColumn,
  Entity,
  Index,
  PrimaryColumn,
  UpdateDateColumn,
  VersionColumn,
} from 'typeorm';
import type { RetryConfig } from './retry-policy.js';
import type { DisabledReason } from './webhooks.events.js';

/** An endpoint that receives events. */
@Entity('webhooks')
@Index('webhooks_holder', ['holderId'])
@Check('webhooks_batch_size_check', 'batch_size > 0')
@Check('webhooks_batch_wait_ms_check', 'batch_wait_ms > 0')
@Check('webhooks_check', 'NOT (active AND (disabled_at IS NOT NULL))')
@Check('webhooks_check1', '(batch_size IS NULL) = (batch_wait_ms IS NULL)')
@Check('webhooks_events_check', 'cardinality(events) > 0')
export class Webhook {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('text')
  url!: string;

  @Column('text', { array: true })
  events!: string[];

  @Column('text')
  secretBox!: string;

  @Column('text', { nullable: true })
  previousSecretBox!: string | null;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  previousSecretUntil!: Date | null;

  @Column('boolean')
  active!: boolean;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  disabledAt!: Date | null;

  @Column('text', { nullable: true })
  disabledReason!: DisabledReason | null;

  @Column('jsonb')
  retryConfig!: RetryConfig;

  @Column('text')
  description!: string;

  @Column('text')
  createdBy!: string;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  failingSince!: Date | null;

  @Column('integer', { default: 0 })
  consecutiveFailures!: number;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  lastSuccessAt!: Date | null;

  @VersionColumn({ type: 'integer', default: 1 })
  version!: number;

  @CreateDateColumn({ type: 'timestamptz', precision: 3 })
  createdAt!: Date;

  @UpdateDateColumn({ type: 'timestamptz', precision: 3 })
  updatedAt!: Date;

  @Column('uuid', { nullable: true, unique: true })
  managedBy!: string | null;

  @Column('text', { array: true })
  readerScopes!: string[];

  @Column('jsonb', { nullable: true })
  filters!: Record<string, unknown> | null;

  @Column('integer', { nullable: true })
  batchSize!: number | null;

  @Column('integer', { nullable: true })
  batchWaitMs!: number | null;

  @Column('text')
  holderId!: string;

  @Column('text', { nullable: true })
  holderCredential!: string | null;
}
