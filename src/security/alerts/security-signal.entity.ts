import { Column, Entity, Index, PrimaryColumn } from 'typeorm';
import type { SignalKind } from './alert-rules.js';

/** How often something suspicious happened within a minute. */
@Entity('security_signals')
@Index('security_signals_minute', ['minute'])
export class SecuritySignal {
  @PrimaryColumn('text')
  kind!: SignalKind;

  @PrimaryColumn('text')
  subject!: string;

  @PrimaryColumn('timestamptz')
  minute!: Date;

  @Column('integer')
  count!: number;
}
