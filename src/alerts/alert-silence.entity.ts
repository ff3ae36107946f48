import { Check, Column, CreateDateColumn, Entity, Index, PrimaryColumn } from 'typeorm';
import type { Matchers } from './silence-matchers.js';

/** A time in which matching alerts notify nobody. */
@Entity('alert_silences')
@Index('alert_silences_ends', ['endsAt'])
@Check('alert_silences_check', 'ends_at > starts_at')
export class AlertSilence {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('text')
  comment!: string;

  @Column('jsonb')
  matchers!: Matchers;

  @Column({ type: 'timestamptz', precision: 3 })
  startsAt!: Date;

  @Column({ type: 'timestamptz', precision: 3 })
  endsAt!: Date;

  @Column('text')
  createdBy!: string;

  @CreateDateColumn({ type: 'timestamptz', precision: 3 })
  createdAt!: Date;
}
