import { Check, Column, CreateDateColumn, Entity, PrimaryColumn, UpdateDateColumn, VersionColumn } from 'typeorm';
import { bigintAsNumber } from '../platform/database/index.js';
import type { HookScheme } from './hook-signature.js';

/** An inbound hook: an address where another system reports events. */
@Entity('hooks')
@Check('hooks_scheme_check', "scheme IN ('standard', 'nexus', 'github')")
export class Hook {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('text', { unique: true })
  name!: string;

  @Column('text')
  scheme!: HookScheme;

  @Column('text')
  eventType!: string;

  @Column('boolean')
  enabled!: boolean;

  @Column('text')
  description!: string;

  @Column('text')
  secretBox!: string;

  @Column('text', { nullable: true })
  previousSecretBox!: string | null;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  previousSecretUntil!: Date | null;

  @Column('text')
  createdBy!: string;

  @Column('bigint', { transformer: bigintAsNumber, default: 0 })
  receivedCount!: number;

  @Column('bigint', { transformer: bigintAsNumber, default: 0 })
  rejectedCount!: number;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  lastReceivedAt!: Date | null;

  @VersionColumn({ type: 'integer', default: 1 })
  version!: number;

  @CreateDateColumn({ type: 'timestamptz', precision: 3 })
  createdAt!: Date;

  @UpdateDateColumn({ type: 'timestamptz', precision: 3 })
  updatedAt!: Date;

  @Column('text')
  ownerId!: string;

  @Column('text', { nullable: true })
  ownerCredential!: string | null;
}
