import { Column, Entity, Index, PrimaryColumn } from 'typeorm';
import type { EventIssue } from './telemetry-event.js';

/** Why an event of a batch was not taken; `index` is its position. */
export type BatchError = { index: number } & EventIssue;

/** What became of a batch of data points. */
@Entity('telemetry_batches')
@Index('telemetry_batches_created_at', ['createdAt'])
export class TelemetryBatch {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('timestamptz')
  createdAt!: Date;

  @Column('text')
  actorId!: string;

  @Column('integer')
  acceptedCount!: number;

  @Column('integer')
  duplicateCount!: number;

  @Column('integer')
  rejectedCount!: number;

  @Column('jsonb')
  errors!: BatchError[];
}
