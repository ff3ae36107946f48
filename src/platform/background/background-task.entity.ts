import { Check, Column, CreateDateColumn, Entity, Index, PrimaryGeneratedColumn, UpdateDateColumn } from 'typeorm';
import type { TaskError, TaskStatus, TaskStep } from './background-task.js';

/** A long operation with steps and progress, run by a worker. */
@Entity('background_tasks')
@Index('background_tasks_finished', ['finishedAt'], { where: 'finished_at IS NOT NULL' })
@Index('background_tasks_newest', ['createdAt', 'id'])
@Index('background_tasks_open', ['kind', 'createdAt'], { where: "status IN ('queued', 'running')" })
@Check('background_tasks_check', "(status = 'running') = (heartbeat_at IS NOT NULL)")
@Check('background_tasks_check1', "(status IN ('queued', 'running')) = (finished_at IS NULL)")
@Check('background_tasks_check2', "(status = 'cancelled') = (cancelled_by IS NOT NULL)")
@Check('background_tasks_progress_check', '(progress >= (0)) AND (progress <= (100))')
@Check('background_tasks_status_check', "status IN ('queued', 'running', 'completed', 'failed', 'cancelled')")
export class BackgroundTask<Input extends object = object> {
  @PrimaryGeneratedColumn('uuid')
  id!: string;

  @Column('text')
  kind!: string;

  @Column('text', { default: 'queued' })
  status!: TaskStatus;

  @Column('double precision', { default: 0 })
  progress!: number;

  @Column('jsonb')
  steps!: TaskStep[];

  @Column('text', { nullable: true })
  currentStep!: string | null;

  @Column('jsonb')
  input!: Input;

  @Column('jsonb', { default: {} })
  details!: Record<string, unknown>;

  @Column('jsonb', { nullable: true })
  checkpoint!: object | null;

  @Column('jsonb', { nullable: true })
  result!: object | null;

  @Column('jsonb', { nullable: true })
  error!: TaskError | null;

  @Column('text')
  createdBy!: string;

  @Column('text', { nullable: true })
  requestId!: string | null;

  @Column('integer', { default: 0 })
  attempt!: number;

  @Column('integer', { default: 0 })
  failures!: number;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  runAt!: Date;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  heartbeatAt!: Date | null;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  dispatchedAt!: Date | null;

  @Column('integer', { default: 0 })
  dispatches!: number;

  @Column('text', { nullable: true })
  cancelledBy!: string | null;

  @CreateDateColumn({ type: 'timestamptz', precision: 3 })
  createdAt!: Date;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  startedAt!: Date | null;

  @UpdateDateColumn({ type: 'timestamptz', precision: 3 })
  updatedAt!: Date;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  finishedAt!: Date | null;
}
