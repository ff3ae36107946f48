import { Column, Entity, Index, PrimaryColumn } from 'typeorm';

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
  errors!: unknown[];
}
