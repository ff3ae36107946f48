import { Column, CreateDateColumn, Entity, ForeignKey, PrimaryColumn } from 'typeorm';
import { Agent } from './agent.entity.js';

/** The Ed25519 key pair that signs the command envelopes of one agent. */
@Entity('agent_signing_keys')
export class AgentSigningKey {
  @ForeignKey(() => Agent, { onDelete: 'CASCADE' })
  @PrimaryColumn('uuid')
  agentId!: string;

  @Column('text')
  publicKey!: string;

  /** Encrypted with the master key. */
  @Column('text')
  privateKey!: string;

  @CreateDateColumn({ type: 'timestamptz' })
  createdAt!: Date;
}
