import { Column, Entity, Index, PrimaryColumn } from 'typeorm';
import { bigintAsNumber } from '../platform/database/index.js';

/** Who did what, append-only, in monthly partitions. */
@Entity({ name: 'audit_entries', synchronize: false })
@Index('audit_entries_actor', ['actorId', 'at', 'id'])
@Index('audit_entries_at', ['at', 'id'])
@Index('audit_entries_failures', ['statusCode', 'at', 'id'], { where: 'status_code >= 400' })
@Index('audit_entries_resource', ['resourceId', 'at'], { where: 'resource_id IS NOT NULL' })
export class AuditEntry {
  @PrimaryColumn('bigint', { transformer: bigintAsNumber })
  id!: number;

  @Column('timestamptz')
  at!: Date;

  @Column('text')
  actorId!: string;

  @Column('text', { nullable: true })
  credentialId!: string | null;

  @Column('text')
  action!: string;

  @Column('text', { nullable: true })
  resourceId!: string | null;

  @Column('smallint')
  statusCode!: number;

  @Column('integer', { default: 1 })
  count!: number;

  @Column('text', { nullable: true })
  ipAddress!: string | null;

  @Column('text', { nullable: true })
  userAgent!: string | null;

  @Column('text', { nullable: true })
  claimedUserId!: string | null;

  @Column('text', { nullable: true })
  requestId!: string | null;
}
