import { Check, Column, Entity, PrimaryColumn } from 'typeorm';

/** One row that the readiness check writes. */
@Entity('write_probe')
@Check('write_probe_one_check', 'one')
export class WriteProbe {
  @PrimaryColumn('boolean', { default: true })
  one!: boolean;

  @Column('timestamptz', { default: () => 'now()' })
  writtenAt!: Date;
}
