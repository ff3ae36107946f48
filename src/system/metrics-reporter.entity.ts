import { Check, Column, Entity, PrimaryColumn } from 'typeorm';

/** One row: the process that reports the figures of the whole installation. */
@Entity('metrics_reporter')
@Check('metrics_reporter_one_check', 'one')
export class MetricsLease {
  @PrimaryColumn('boolean', { default: true })
  one!: boolean;

  @Column('uuid')
  processId!: string;

  @Column('timestamptz')
  expiresAt!: Date;
}
