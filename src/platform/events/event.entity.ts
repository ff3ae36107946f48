import { Check, Column, Entity, Index, PrimaryColumn } from 'typeorm';
import { bigintAsNumber } from '../database/index.js';
import type { EventPriority } from './event-definition.js';

/** A domain event: written in the transaction of the change (outbox), then placed in the order of all events by the relay. */
@Entity('events')
@Index('events_correlation', ['correlationId', 'occurredAt'], { where: 'correlation_id IS NOT NULL' })
@Index('events_expires_at', ['expiresAt'], { where: 'expires_at IS NOT NULL' })
@Index('events_occurred_at', ['occurredAt', 'id'])
@Index('events_priority', ['priority', 'occurredAt'], { where: "priority <> 'normal'" })
@Index('events_source', ['source', 'occurredAt'], { where: 'source IS NOT NULL' })
@Index('events_type', { synchronize: false })
@Index('events_type_end', { synchronize: false })
@Index('events_unrelayed', ['position'], { where: 'relayed_at IS NULL' })
@Check('events_priority_check', "priority IN ('low', 'normal', 'high', 'critical')")
export class DomainEvent {
  @PrimaryColumn('uuid')
  id!: string;

  /** Order of writing; gaps and late commits are possible. */
  @Column({ type: 'bigint', transformer: bigintAsNumber, generated: 'identity', generatedIdentity: 'ALWAYS' })
  position!: number;

  /** Place in the order of all events, given by the relay; null until then. */
  @Column('bigint', { nullable: true, transformer: bigintAsNumber, unique: true })
  seq!: number | null;

  @Column('text')
  type!: string;

  @Column('text', { nullable: true })
  subject!: string | null;

  @Column('jsonb')
  data!: Record<string, unknown>;

  @Column('text')
  actorId!: string;

  @Column('text', { nullable: true })
  requestId!: string | null;

  @Column('timestamptz', { default: () => 'clock_timestamp()' })
  occurredAt!: Date;

  @Column('timestamptz', { nullable: true })
  relayedAt!: Date | null;

  @Column('text', { nullable: true })
  source!: string | null;

  @Column('jsonb', { nullable: true })
  metadata!: Record<string, unknown> | null;

  @Column('text', { default: 'normal' })
  priority!: EventPriority;

  @Column('text', { nullable: true })
  correlationId!: string | null;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  expiresAt!: Date | null;
}
