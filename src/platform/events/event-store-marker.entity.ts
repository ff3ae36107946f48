import { Check, Column, Entity, PrimaryColumn } from 'typeorm';
import { bigintAsNumber } from '../database/index.js';

/** One row; compared with a value in the job store, it shows that the store has lost its data. */
@Entity('event_store_marker')
@Check('event_store_marker_one_check', 'one')
export class EventStoreMarker {
  @PrimaryColumn('boolean', { default: true })
  one!: boolean;

  @Column('bigint', { transformer: bigintAsNumber, default: 0 })
  value!: number;
}
