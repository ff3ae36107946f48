import { Column, Entity, PrimaryColumn } from 'typeorm';
import { bigintAsNumber } from '../database/index.js';

/** Up to which event a handler is known to have been given its jobs. */
@Entity('event_checkpoints')
export class EventCheckpoint {
  @PrimaryColumn('text')
  handler!: string;

  @Column('bigint', { transformer: bigintAsNumber })
  seq!: number;
}
