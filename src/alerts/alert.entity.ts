import { Check, Column, Entity, Index, PrimaryColumn } from 'typeorm';
import { bigintAsNumber } from '../platform/database/index.js';
import type { Grouping } from './compiled-rule.js';
import type { Severity } from './rule-definition.js';

export type ClearReason = 'condition' | 'manual' | 'rule_changed' | 'rule_disabled' | 'rule_deleted';

export interface AlertNote {
  at: string;
  by: string;
  action: 'acknowledged' | 'resolved';
  text: string;
}

/** What became of an action of the rule, by its place in the list. */
export type ActionOutcome =
  | { type: 'command'; command_id: string }
  | { type: 'webhook'; webhook_id: string }
  | { type: 'command' | 'webhook'; error: string }
  | { type: 'event' };

/** An alert that a rule has raised for one group. */
@Entity('alerts')
@Index('alerts_cleared', ['clearedAt'], { where: "status = 'cleared'" })
@Index('alerts_newest', ['startedAt', 'id'])
@Index('alerts_open', ['ruleId', 'groupId'], { unique: true, where: "status = 'active'" })
@Index('alerts_rule', ['ruleId', 'startedAt'])
@Index('alerts_silenced', ['id'], { where: "(status = 'active') AND (notified_at IS NULL)" })
@Index('alerts_source', ['source', 'startedAt'])
@Check('alerts_check', "(status = 'cleared') = (cleared_at IS NOT NULL)")
@Check('alerts_status_check', "status IN ('active', 'cleared')")
export class Alert {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('uuid')
  ruleId!: string;

  @Column('uuid')
  groupId!: string;

  @Column('text')
  ruleName!: string;

  @Column('text')
  severity!: Severity;

  @Column('text')
  condition!: string;

  @Column('jsonb')
  grouping!: Grouping;

  @Column({ type: 'text', collation: 'C', nullable: true })
  source!: string | null;

  @Column('text', { nullable: true })
  metricName!: string | null;

  @Column('text', { nullable: true })
  unit!: string | null;

  @Column('jsonb')
  tags!: Record<string, string>;

  @Column('uuid', { nullable: true })
  eventId!: string | null;

  @Column('double precision', { nullable: true })
  value!: number | null;

  @Column('text', { default: 'active' })
  status!: 'active' | 'cleared';

  @Column({ type: 'timestamptz', precision: 3 })
  startedAt!: Date;

  @Column('double precision', { nullable: true })
  lastValue!: number | null;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  lastAt!: Date | null;

  @Column('bigint', { transformer: bigintAsNumber, default: 1 })
  count!: number;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  clearedAt!: Date | null;

  @Column('text', { nullable: true })
  clearedBy!: string | null;

  @Column('text', { nullable: true })
  clearReason!: ClearReason | null;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  acknowledgedAt!: Date | null;

  @Column('text', { nullable: true })
  acknowledgedBy!: string | null;

  @Column('jsonb', { default: [] })
  notes!: AlertNote[];

  @Column('boolean', { default: false })
  silenced!: boolean;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  notifiedAt!: Date | null;

  @Column('jsonb', { default: {} })
  actions!: Record<string, ActionOutcome>;
}
