import { Column, Entity, PrimaryColumn } from 'typeorm';

/** When a frequent job is due next; claimed by the process that runs it. */
@Entity('schedule_claims')
export class ScheduleClaim {
  @PrimaryColumn('text')
  job!: string;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  nextRunAt!: Date;
}
