import { Column, CreateDateColumn, Entity, Index, PrimaryColumn, UpdateDateColumn, VersionColumn } from 'typeorm';
import type { RuleDefinition, Severity } from './rule-definition.js';

/** A rule that raises alerts from telemetry. */
@Entity('alert_rules')
@Index('alert_rules_newest', ['createdAt', 'id'])
export class AlertRule {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('text')
  name!: string;

  @Column('text')
  description!: string;

  @Column('boolean')
  enabled!: boolean;

  @Column('text')
  severity!: Severity;

  @Column('jsonb')
  definition!: RuleDefinition;

  @Column('jsonb', { nullable: true })
  targetLabels!: Record<string, string> | null;

  @VersionColumn({ type: 'integer', default: 1 })
  version!: number;

  @Column('text')
  createdBy!: string;

  @Column('text')
  updatedBy!: string;

  @CreateDateColumn({ type: 'timestamptz', precision: 3 })
  createdAt!: Date;

  @UpdateDateColumn({ type: 'timestamptz', precision: 3 })
  updatedAt!: Date;

  @Column('text')
  ownerId!: string;

  @Column('text', { nullable: true })
  ownerCredential!: string | null;

  @Column('text', { array: true, default: '{}' })
  suspendedActions!: string[];
}
