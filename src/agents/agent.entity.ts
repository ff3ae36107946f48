import type { CommandTypeAdvert } from '@nexus/agent/protocol';
import { Check, Column, Entity, Index, PrimaryColumn, UpdateDateColumn, VersionColumn } from 'typeorm';
import type { AgentStatus } from './agent.js';

/** An agent of the registry: a host, an AI or a service. */
@Entity('agents')
@Index('agents_labels', { synchronize: false })
@Index('agents_name', { synchronize: false })
@Index('agents_registered_at', ['registeredAt', 'id'])
@Check('agents_status_check', "status IN ('active', 'degraded', 'inactive', 'offline', 'maintenance', 'deregistered')")
export class Agent {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('text')
  name!: string;

  @Column('text')
  agentType!: string;

  @Column('text', { array: true, default: '{}' })
  capabilities!: string[];

  @Column('text')
  version!: string;

  @Column('text', { nullable: true })
  endpoint!: string | null;

  /** `key_reference` names a stored secret or an environment variable; it never is the secret. */
  @Column('jsonb', { nullable: true })
  authentication!: { type: string; key_reference: string } | null;

  /** Labels that were set on the server. */
  @Column('jsonb', { default: {} })
  labels!: Record<string, string>;

  /** Labels that the agent reports of itself. */
  @Column('jsonb', { default: {} })
  reportedLabels!: Record<string, string>;

  /** Labels of the server over the ones the agent reports; answers, selectors and filters show these. Never null. */
  @Column({
    type: 'jsonb',
    generatedType: 'STORED',
    asExpression: 'reported_labels || labels',
    insert: false,
    update: false,
    nullable: true,
  })
  allLabels!: Record<string, string>;

  @Column('text')
  status!: AgentStatus;

  /** Set by an operator: the agent is in maintenance or inactive until it is released, whatever its presence says. */
  @Column('boolean', { default: false })
  held!: boolean;

  @Column('real', { nullable: true })
  loadPercent!: number | null;

  @Column('timestamptz', { nullable: true })
  lastSeenAt!: Date | null;

  /** Set while the agent holds its link. */
  @Column('timestamptz', { nullable: true })
  connectedAt!: Date | null;

  /** Process that holds the link of the agent. */
  @Column('uuid', { nullable: true })
  linkNode!: string | null;

  @Column('uuid', { nullable: true })
  linkId!: string | null;

  @Column('text', { nullable: true })
  hostname!: string | null;

  @Column('text', { nullable: true })
  platform!: string | null;

  /** What the agent is willing to execute, as of its last `hello`. */
  @Column('jsonb', { default: [] })
  commandTypes!: CommandTypeAdvert[];

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  registeredAt!: Date;

  @UpdateDateColumn({ type: 'timestamptz' })
  updatedAt!: Date;

  /** Raised by what a client changes, not by presence: the `ETag`. */
  @VersionColumn({ type: 'integer', default: 1 })
  rowVersion!: number;
}
