import { Column, Entity, PrimaryColumn } from 'typeorm';

/**
 * Requests of one caller, network and route within a minute that one audit entry stands for. Where strangers come from is their `network`; it
 * is empty for principals, whom their credential tells apart.
 */
@Entity('audit_minutes')
export class AuditMinute {
  @PrimaryColumn('timestamptz')
  minute!: Date;

  @PrimaryColumn('text')
  actorId!: string;

  @PrimaryColumn('text', { default: '' })
  credentialId!: string;

  @PrimaryColumn('text')
  action!: string;

  @PrimaryColumn('smallint')
  statusCode!: number;

  @Column('integer')
  count!: number;

  @Column('text', { nullable: true })
  ipAddress!: string | null;

  @Column('text', { nullable: true })
  userAgent!: string | null;

  @PrimaryColumn('text', { default: '' })
  network!: string;
}
