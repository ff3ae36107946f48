import { Column, Entity, Index, PrimaryColumn } from 'typeorm';
import { bigintArrayAsNumbers, bigintAsNumber } from '../platform/database/index.js';

/** A series summed up over one bucket of time, with a mergeable histogram. */
@Entity('telemetry_rollups')
@Index('telemetry_rollups_bucket', ['resolution', 'bucket'])
export class TelemetryRollup {
  @PrimaryColumn('integer')
  resolution!: number;

  @PrimaryColumn('bigint', { transformer: bigintAsNumber })
  seriesId!: number;

  @PrimaryColumn('timestamptz')
  bucket!: Date;

  @Column('bigint', { transformer: bigintAsNumber })
  count!: number;

  @Column('double precision')
  sum!: number;

  @Column('double precision')
  min!: number;

  @Column('double precision')
  max!: number;

  @Column('timestamptz')
  lastAt!: Date;

  @Column('double precision')
  last!: number;

  @Column('integer', { array: true })
  bins!: number[];

  @Column('bigint', { array: true, transformer: bigintArrayAsNumbers })
  binCounts!: number[];
}
