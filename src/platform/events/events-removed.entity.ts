import { Check, Column, Entity, PrimaryColumn } from 'typeorm';
import { bigintAsNumber } from '../database/index.js';

/** One row: up to which place events have been deleted. */
@Entity('events_removed')
@Check('events_removed_one_check', 'one')
export class EventsRemoved {
  @PrimaryColumn('boolean', { default: true })
  one!: boolean;

  @Column('bigint', { transformer: bigintAsNumber, default: 0 })
  upTo!: number;
}
