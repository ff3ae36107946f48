import {
  Check,
  Column,
  CreateDateColumn,
  Entity,
  ForeignKey,
  Index,
  JoinColumn,
  ManyToOne,
  PrimaryColumn,
} from 'typeorm';
import { User } from '../accounts/user.entity.js';

/** An API key, a personal token or the key of an agent, by its hash. */
@Entity('credentials')
@Index('credentials_agent', ['agentId'], { where: 'agent_id IS NOT NULL' })
@Index('credentials_owner', ['ownerUserId', 'createdAt'])
@Index('credentials_parent', ['parentId'], { where: 'parent_id IS NOT NULL' })
@Check('credentials_check', '(agent_id IS NULL) <> (owner_user_id IS NULL)')
@Check('credentials_check1', "(kind = 'agent') = (agent_id IS NOT NULL)")
@Check('credentials_kind_check', "kind IN ('api', 'tok', 'agent')")
export class Credential {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('text')
  kind!: 'api' | 'tok' | 'agent';

  @Column('text', { unique: true })
  keyId!: string;

  @Column('bytea')
  hash!: Buffer;

  @Column('text')
  preview!: string;

  @Column('text')
  name!: string;

  @Column('text', { nullable: true })
  description!: string | null;

  @ForeignKey(() => User, { onDelete: 'CASCADE' })
  @Column('uuid', { nullable: true })
  ownerUserId!: string | null;

  @Column('uuid', { nullable: true })
  agentId!: string | null;

  @Column('text', { array: true })
  scopes!: string[];

  @CreateDateColumn({ type: 'timestamptz', precision: 3 })
  createdAt!: Date;

  @Column('timestamptz', { nullable: true })
  expiresAt!: Date | null;

  @Column('timestamptz', { nullable: true })
  lastUsedAt!: Date | null;

  @Column('timestamptz', { nullable: true })
  revokedAt!: Date | null;

  /** The key it was made with, with which it ends. */
  @Column('uuid', { nullable: true })
  parentId!: string | null;

  @ManyToOne(() => Credential, { onDelete: 'SET NULL' })
  @JoinColumn({ name: 'parent_id' })
  parent?: Credential | null;
}
