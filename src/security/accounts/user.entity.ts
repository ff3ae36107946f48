import {
  Check,
  Column,
  CreateDateColumn,
  Entity,
  Index,
  PrimaryColumn,
  UpdateDateColumn,
  VersionColumn,
} from 'typeorm';

/** A person who may log in. */
@Entity('users')
@Index('users_email', { synchronize: false })
@Index('users_username', { synchronize: false })
@Check('users_status_check', "status IN ('active', 'suspended', 'deleted')")
export class User {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('text')
  username!: string;

  @Column('text', { nullable: true })
  email!: string | null;

  @Column('text', { nullable: true })
  fullName!: string | null;

  @Column('text', { nullable: true })
  passwordHash!: string | null;

  @Column('text', { default: 'active' })
  status!: 'active' | 'suspended' | 'deleted';

  @Column('text', { array: true, default: '{}' })
  roles!: string[];

  @Column('jsonb', { default: {} })
  preferences!: Record<string, unknown>;

  @Column('jsonb', { default: {} })
  metadata!: Record<string, unknown>;

  /** Access tokens issued earlier are void. */
  @Column('timestamptz', { default: () => "'-infinity'" })
  notBefore!: Date;

  @Column('timestamptz', { nullable: true })
  lastLoginAt!: Date | null;

  @CreateDateColumn({ type: 'timestamptz' })
  createdAt!: Date;

  @UpdateDateColumn({ type: 'timestamptz' })
  updatedAt!: Date;

  @VersionColumn({ type: 'integer', default: 1 })
  version!: number;
}
