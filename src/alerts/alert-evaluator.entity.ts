import { Column, Entity, PrimaryColumn } from 'typeorm';

/** A process that evaluates rules, and up to which receipt it is done. */
@Entity('alert_evaluators')
export class AlertEvaluator {
  @PrimaryColumn('uuid')
  id!: string;

  @Column({ type: 'timestamptz', precision: 3 })
  beatAt!: Date;

  @Column({ type: 'timestamptz', precision: 3 })
  doneBefore!: Date;
}
