import { Column, Entity, Index, PrimaryColumn } from 'typeorm';
import { bigintAsNumber } from '../platform/database/index.js';

/** A metric of a source with its tags. The empty metric name stands for events of the source that carry no number. */
@Entity('telemetry_series')
@Index('telemetry_series_metric', ['metricName', 'source'])
@Index('telemetry_series_source', ['source'])
export class TelemetrySeries {
  @PrimaryColumn({ type: 'bigint', transformer: bigintAsNumber, generated: 'identity', generatedIdentity: 'ALWAYS' })
  id!: number;

  @Column('uuid', { unique: true })
  key!: string;

  @Column({ type: 'text', collation: 'C' })
  source!: string;

  @Column({ type: 'text', collation: 'C' })
  metricName!: string;

  @Column('jsonb')
  tags!: Record<string, string>;

  @Column('text', { nullable: true })
  unit!: string | null;

  @Column('text')
  eventType!: string;

  @Column('timestamptz')
  firstSeen!: Date;

  @Column('timestamptz')
  lastSeen!: Date;

  @Column('timestamptz', { default: () => 'now()' })
  lastReceived!: Date;
}
