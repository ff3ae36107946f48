import { Check, Column, Entity, ForeignKey, Index, PrimaryColumn, UpdateDateColumn } from 'typeorm';
import { AlertRule } from './alert-rule.entity.js';
import type { Phase } from './alert-state.js';
import type { Grouping } from './compiled-rule.js';

/** What is kept of the newest event for which the condition held, for an alert that the clock raises. */
export interface Sample {
  event_id: string | null;
  source: string | null;
  metric_name: string | null;
  value: number | null;
  unit: string | null;
  tags: Record<string, string>;
}

/** Where one group of a rule stands: the memory between two events. */
@Entity('alert_states')
@Index('alert_states_due', ['dueAt'], { where: 'due_at IS NOT NULL' })
@Index('alert_states_recheck', ['recheckAt'], { where: 'recheck_at IS NOT NULL' })
@Index('alert_states_updated', ['updatedAt'])
@Check('alert_states_check', "(phase IN ('firing', 'clearing')) = (alert_id IS NOT NULL)")
@Check('alert_states_phase_check', "phase IN ('ok', 'pending', 'firing', 'clearing')")
export class AlertState {
  @ForeignKey(() => AlertRule, { onDelete: 'CASCADE' })
  @PrimaryColumn('uuid')
  ruleId!: string;

  @PrimaryColumn('uuid')
  groupId!: string;

  @Column('text')
  groupKey!: string;

  @Column('jsonb')
  grouping!: Grouping;

  @Column('text', { default: 'ok' })
  phase!: Phase;

  @Column('integer', { default: 0 })
  matches!: number;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  since!: Date | null;

  @Column({ type: 'timestamptz', precision: 3, default: () => "'1970-01-01 00:00:00+00'" })
  lastTs!: Date;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  raisedAt!: Date | null;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  dueAt!: Date | null;

  @Column('uuid', { nullable: true })
  alertId!: string | null;

  @Column('jsonb', { nullable: true })
  sample!: Sample | null;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  recheckAt!: Date | null;

  @UpdateDateColumn({ type: 'timestamptz', precision: 3 })
  updatedAt!: Date;

  /** Receipt and id of the last event with the time `lastTs`; null when that is of no event. */
  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  lastReceivedAt!: Date | null;

  @Column('uuid', { nullable: true })
  lastEventId!: string | null;
}
