import { Check, Column, Entity, ForeignKey, PrimaryColumn } from 'typeorm';
import { bigintAsNumber } from '../database/index.js';
import { BackgroundTask } from './background-task.entity.js';
import type { LogLevel } from './task-definition.js';

/** A line of the log of a long operation. */
@Entity('background_task_logs')
@Check('background_task_logs_level_check', "level IN ('info', 'warn', 'error')")
export class BackgroundTaskLog {
  @ForeignKey(() => BackgroundTask, { onDelete: 'CASCADE' })
  @PrimaryColumn('uuid')
  taskId!: string;

  @PrimaryColumn({ type: 'bigint', transformer: bigintAsNumber, generated: 'identity', generatedIdentity: 'ALWAYS' })
  n!: number;

  @Column({ type: 'timestamptz', precision: 3 })
  at!: Date;

  @Column('text')
  level!: LogLevel;

  @Column('text')
  message!: string;
}
