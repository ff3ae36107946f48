import { Check, Column, CreateDateColumn, Entity, PrimaryColumn, UpdateDateColumn, VersionColumn } from 'typeorm';

/** An entry of the catalogue of commands. */
@Entity('command_types')
@Check('command_types_executor_check', "executor IN ('agent', 'server', 'any')")
@Check('command_types_risk_check', "risk IN ('low', 'medium', 'high')")
export class CommandType {
  @PrimaryColumn('text')
  type!: string;

  @Column('text')
  description!: string;

  @Column('jsonb')
  parameters!: Record<string, unknown>;

  @Column('text')
  executor!: 'agent' | 'server' | 'any';

  @Column('integer')
  defaultTimeoutSeconds!: number;

  @Column('text')
  risk!: 'low' | 'medium' | 'high';

  @Column('boolean')
  idempotent!: boolean;

  @Column('boolean')
  enabled!: boolean;

  @Column('boolean')
  builtIn!: boolean;

  @CreateDateColumn({ type: 'timestamptz' })
  createdAt!: Date;

  @UpdateDateColumn({ type: 'timestamptz' })
  updatedAt!: Date;

  @Column('timestamptz', { nullable: true })
  deletedAt!: Date | null;

  @VersionColumn({ type: 'integer', default: 1 })
  version!: number;
}
