import { Check, Column, Entity, Index, PrimaryGeneratedColumn, Unique } from 'typeorm';
import type { StoredEvent } from './event-definition.js';

/** An event that a handler has failed to handle after all its attempts. */
@Entity('event_dead_letters')
@Index('event_dead_letters_newest', ['failedAt', 'id'])
@Index('event_dead_letters_retrying', ['dispatchedAt'], { where: "status = 'retrying'" })
@Unique(['handler', 'eventId'])
@Check('event_dead_letters_status_check', "status IN ('failed', 'retrying')")
export class DeadLetter {
  @PrimaryGeneratedColumn('uuid')
  id!: string;

  @Column('text')
  handler!: string;

  @Column('uuid')
  eventId!: string;

  @Column('text')
  eventType!: string;

  @Column('jsonb')
  event!: StoredEvent;

  @Column('text', { default: 'failed' })
  status!: 'failed' | 'retrying';

  @Column('text')
  error!: string;

  @Column('integer')
  attempts!: number;

  @Column('integer', { default: 0 })
  retries!: number;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  firstFailedAt!: Date;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  failedAt!: Date;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  dispatchedAt!: Date | null;
}
