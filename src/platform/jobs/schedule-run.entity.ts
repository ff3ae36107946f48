import { Column, Entity, PrimaryColumn } from 'typeorm';

/** When a scheduled job has last run. */
@Entity('schedule_runs')
export class ScheduleRun {
  @PrimaryColumn('text')
  job!: string;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  lastRunAt!: Date;
}
