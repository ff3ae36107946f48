import { Check, Column, CreateDateColumn, Entity, Index, PrimaryGeneratedColumn, Unique } from 'typeorm';
import type { AlertSeverity, AlertType } from './alert-rules.js';

/** A suspicion that somebody should look at. */
@Entity('security_alerts')
@Index('security_alerts_newest', ['createdAt', 'id'])
@Unique(['type', 'subject', 'createdAt'])
@Check('security_alerts_check', '(acknowledged_at IS NULL) = (acknowledged_by IS NULL)')
@Check('security_alerts_severity_check', "severity IN ('low', 'medium', 'high', 'critical')")
export class SecurityAlert {
  @PrimaryGeneratedColumn('uuid')
  id!: string;

  @Column('text')
  type!: AlertType;

  @Column('text')
  subject!: string;

  @Column('text')
  severity!: AlertSeverity;

  @Column('text')
  message!: string;

  @Column('jsonb')
  details!: Record<string, unknown>;

  @Column('integer')
  occurrences!: number;

  @CreateDateColumn({ type: 'timestamptz', precision: 3 })
  createdAt!: Date;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  lastSeenAt!: Date;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  acknowledgedAt!: Date | null;

  @Column('text', { nullable: true })
  acknowledgedBy!: string | null;
}
