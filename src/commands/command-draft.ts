import { canBecome, type CommandState, isFinal } from './command-status.js';
import type { Command, CommandResult, TimelineEntry } from './command.entity.js';

/** The part of a command's row that changes during its life, and what is needed to change it. */
export type CommandRow = Pick<
  Command,
  | 'id'
  | 'parentId'
  | 'commandType'
  | 'target'
  | 'agentId'
  | 'executor'
  | 'targetName'
  | 'priority'
  | 'createdBy'
  | 'status'
  | 'createdAt'
  | 'deliveredAt'
  | 'startedAt'
  | 'completedAt'
  | 'deadlineAt'
  | 'dueAt'
  | 'attempts'
  | 'result'
  | 'heldResult'
  | 'outputBytes'
  | 'outputTruncated'
  | 'callbackUrl'
  | 'callbackAttempts'
  | 'callbackDueAt'
>;

/** How long after `timeout_seconds` the agent may still report how it ended a command it has accepted. */
const GRACE_MS = 5000;

/** A locked row being changed: the state rules live here, storing is the writer's business. */
export class CommandTransition {
  readonly notes: TimelineEntry[] = [];
  readonly output: { stream: string; offset: number; data: Buffer }[] = [];
  /** States passed through, in order. */
  readonly passed: CommandState[] = [];
  changed = false;

  constructor(
    readonly row: CommandRow,
    readonly now: Date,
  ) {}

  /** Moves the command on when the state machine allows it; a forbidden move changes nothing. */
  become(state: CommandState, detail?: string): boolean {
    const { row, now } = this;
    if (!canBecome(row.status, state)) return false;
    row.status = state;
    if (row.executor === 'link' && row.deliveredAt === null && (state === 'delivered' || state === 'running')) {
      row.deliveredAt = now;
      row.deadlineAt = row.deadlineAt && new Date(row.deadlineAt.getTime() + GRACE_MS);
    }
    // A run that is begun again is the same start to everybody else.
    const restarted = state === 'running' && row.startedAt !== null;
    if (state === 'running') row.startedAt ??= now;
    if (isFinal(state)) {
      row.completedAt = now;
      row.dueAt = null;
      if (row.callbackUrl !== null) row.callbackDueAt = now;
    }
    if (!restarted) this.passed.push(state);
    this.note(state, detail);
    return true;
  }

  /** Ends the command with a result; false when it had ended before. */
  finish(state: CommandState, result: CommandResult, detail?: string): boolean {
    if (!this.become(state, detail ?? result.error?.message)) return false;
    this.row.result = result;
    return true;
  }

  /** Ends the command without a word from whoever runs it. */
  giveUp(
    state: 'failed' | 'timed_out' | 'cancelled',
    error: { code: string; message: string },
    detail?: string,
  ): boolean {
    const { row, now } = this;
    const since = row.startedAt ?? row.createdAt;
    return this.finish(
      state,
      {
        success: false,
        message: error.message,
        exit_code: null,
        signal: null,
        data: null,
        error,
        duration_ms: Math.max(0, now.getTime() - since.getTime()),
        output_bytes: row.outputBytes,
        output_truncated: row.outputTruncated,
      },
      detail,
    );
  }

  note(status: string, detail?: string): void {
    this.changed = true;
    this.notes.push({ at: this.now.toISOString(), status, ...(detail ? { detail: detail.slice(0, 500) } : {}) });
  }
}
