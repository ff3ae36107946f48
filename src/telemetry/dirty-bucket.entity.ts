import { Entity, PrimaryColumn } from 'typeorm';

/** A bucket that has new data points to roll up. A queue without a key: every flush appends, the roll-up deletes. */
@Entity({ name: 'telemetry_dirty', synchronize: false })
export class DirtyBucket {
  @PrimaryColumn('integer')
  resolution!: number;

  @PrimaryColumn('timestamptz')
  bucket!: Date;
}
