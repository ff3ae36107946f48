import { Column, Entity, Index, PrimaryColumn } from 'typeorm';
import { bigintAsNumber } from '../platform/database/index.js';

/** A data point, in daily partitions by its own time. */
@Entity({ name: 'telemetry_events', synchronize: false })
@Index('telemetry_events_received', { synchronize: false })
@Index('telemetry_events_source', ['source', 'ts'])
@Index('telemetry_events_ts', ['ts'])
@Index('telemetry_events_type', ['eventType', 'ts'])
export class TelemetryEvent {
  @PrimaryColumn('uuid')
  eventId!: string;

  @PrimaryColumn('timestamptz')
  ts!: Date;

  @Column('timestamptz')
  receivedAt!: Date;

  @Column('bigint', { nullable: true, transformer: bigintAsNumber })
  seriesId!: number | null;

  @Column('double precision', { nullable: true })
  value!: number | null;

  @Column({ type: 'text', collation: 'C' })
  eventType!: string;

  @Column({ type: 'text', collation: 'C' })
  source!: string;

  @Column('jsonb')
  data!: Record<string, unknown>;

  @Column('jsonb', { nullable: true })
  metadata!: Record<string, unknown> | null;
}
