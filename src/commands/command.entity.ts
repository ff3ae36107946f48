import { Check, Column, Entity, ForeignKey, Index, PrimaryColumn, Unique, VersionColumn } from 'typeorm';
import { bigintAsNumber } from '../platform/database/index.js';
import type { CommandState } from './command-status.js';

export type Executor = 'link' | 'http' | 'builtin' | 'fanout';

/** What a finished command has to say; stored as JSON. */
export interface CommandResult {
  success: boolean;
  message: string;
  exit_code: number | null;
  signal: string | null;
  data: unknown;
  error: { code: string; message: string } | null;
  duration_ms: number;
  output_bytes: number;
  output_truncated: boolean;
  /** Of a parent: how many children ended how. */
  summary?: Record<string, number>;
}

export interface TimelineEntry {
  at: string;
  status: string;
  detail?: string;
}

/** A command for one target, or the parent of the commands for several. */
@Entity('commands')
@Index('commands_callback_due', ['callbackDueAt'], { where: 'callback_due_at IS NOT NULL' })
@Index('commands_deadline', ['deadlineAt'], { where: "status IN ('queued', 'delivered', 'running')" })
@Index('commands_due', ['dueAt'], { where: 'due_at IS NOT NULL' })
@Index('commands_finished', ['completedAt'], { where: 'completed_at IS NOT NULL' })
@Index('commands_newest', ['createdAt', 'id'])
@Index('commands_of_agent', ['agentId', 'createdAt'])
@Index('commands_of_parent', ['parentId'], { where: 'parent_id IS NOT NULL' })
@Index('commands_open', ['agentId', 'status'], { where: "status IN ('queued', 'delivered', 'running')" })
@Unique(['createdBy', 'idempotencyKey'])
@Check('commands_executor_check', "executor IN ('link', 'http', 'builtin', 'fanout')")
@Check(
  'commands_status_check',
  "status IN ('queued', 'delivered', 'running', 'completed', 'failed', 'cancelled', 'timed_out')",
)
export class Command {
  @PrimaryColumn('uuid')
  id!: string;

  @ForeignKey(() => Command, { onDelete: 'CASCADE' })
  @Column('uuid', { nullable: true })
  parentId!: string | null;

  @Column('uuid', { nullable: true })
  retryOf!: string | null;

  @Column('text')
  commandType!: string;

  @Column('text')
  target!: string;

  @Column('uuid', { nullable: true })
  agentId!: string | null;

  @Column('text')
  executor!: Executor;

  @Column('jsonb')
  parameters!: Record<string, unknown>;

  @Column('smallint')
  priority!: number;

  @Column('integer')
  timeoutSeconds!: number;

  @Column('text')
  status!: CommandState;

  @Column('text')
  createdBy!: string;

  @Column('text', { nullable: true })
  credential!: string | null;

  @Column('text', { nullable: true })
  requestId!: string | null;

  @Column('text', { nullable: true })
  idempotencyKey!: string | null;

  @Column('text', { nullable: true })
  idempotencyHash!: string | null;

  @Column('timestamptz')
  createdAt!: Date;

  @Column('timestamptz', { nullable: true })
  deliveredAt!: Date | null;

  @Column('timestamptz', { nullable: true })
  startedAt!: Date | null;

  @Column('timestamptz', { nullable: true })
  completedAt!: Date | null;

  /** When the command is given up; null for a parent, whose children have deadlines. */
  @Column('timestamptz', { nullable: true })
  deadlineAt!: Date | null;

  /** When a worker must look at it: the next try of a queued run, the end of the lease of a running one. */
  @Column('timestamptz', { nullable: true })
  dueAt!: Date | null;

  /** Runs begun; also the fencing number of the run that may write. */
  @Column('integer', { default: 0 })
  attempts!: number;

  @Column('jsonb', { nullable: true })
  result!: CommandResult | null;

  /** An end that was reported but does not count (yet): output is missing, or the command had ended otherwise before. */
  @Column('jsonb', { nullable: true })
  heldResult!: (CommandResult & { status: CommandState }) | null;

  /** Offset of the next output byte that is expected. */
  @Column('bigint', { transformer: bigintAsNumber, default: 0 })
  outputBytes!: number;

  @Column('boolean', { default: false })
  outputTruncated!: boolean;

  @Column('jsonb')
  timeline!: TimelineEntry[];

  @Column('text', { nullable: true })
  callbackUrl!: string | null;

  @Column('text', { nullable: true })
  callbackBody!: string | null;

  @Column('integer', { default: 0 })
  callbackAttempts!: number;

  @Column('timestamptz', { nullable: true })
  callbackDueAt!: Date | null;

  @VersionColumn({ type: 'integer', default: 1 })
  version!: number;

  /** Name of who carries it out; null for a parent. */
  @Column('text', { nullable: true })
  targetName!: string | null;
}
