import { Check, Column, Entity, ForeignKey, PrimaryColumn } from 'typeorm';
import { bigintAsNumber } from '../platform/database/index.js';
import { Command } from './command.entity.js';

/** A piece of what a command has printed. */
@Entity('command_output')
@Check('command_output_stream_check', "stream IN ('stdout', 'stderr')")
export class CommandOutput {
  @ForeignKey(() => Command, { onDelete: 'CASCADE' })
  @PrimaryColumn('uuid')
  commandId!: string;

  @PrimaryColumn('bigint', { transformer: bigintAsNumber })
  offset!: number;

  @Column('text')
  stream!: 'stdout' | 'stderr';

  @Column('bytea')
  data!: Buffer;

  @Column('timestamptz', { default: () => 'now()' })
  receivedAt!: Date;
}
