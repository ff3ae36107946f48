import { Column, Entity, PrimaryColumn } from 'typeorm';

/** Refused requests of one caller, network and route within a minute, counted instead of written one by one. */
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
