import { canBecome, type CommandState, isFinal } from './command-status.js';

export type Executor = 'link' | 'http' | 'builtin' | 'fanout';

/** What a finished command has to say (contract C-27); stored as JSON. */
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

/** The part of a command's row that changes during its life, and what is needed to change it. */
export interface CommandRow {
  id: string;
  parent_id: string | null;
  command_type: string;
  target: string;
  agent_id: string | null;
  executor: Executor;
  /** Name of who carries it out; null for a parent. */
  target_name: string | null;
  priority: number;
  created_by: string;
  status: CommandState;
  created_at: Date;
  delivered_at: Date | null;
  started_at: Date | null;
  completed_at: Date | null;
  /** When the command is given up; null for a parent, whose children have deadlines. */
  deadline_at: Date | null;
  /** When a worker must look at it: the next try of a queued run, the end of the lease of a running one. */
  due_at: Date | null;
  /** Runs begun; also the fencing number of the run that may write. */
  attempts: number;
  result: CommandResult | null;
  /** An end that was reported but does not count (yet): output is missing, or the command had ended otherwise before. */
  held_result: (CommandResult & { status: CommandState }) | null;
  /** Next output byte wanted. */
  output_bytes: number;
  output_truncated: boolean;
  callback_url: string | null;
  callback_due_at: Date | null;
}

/** How long after `timeout_seconds` the agent may still report how it ended a command it has accepted. */
const GRACE_MS = 5000;

/** A locked row being changed: the state rules live here, storing is the writer's business. */
export class CommandDraft {
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
    if (row.executor === 'link' && row.delivered_at === null && (state === 'delivered' || state === 'running')) {
      row.delivered_at = now;
      row.deadline_at = row.deadline_at && new Date(row.deadline_at.getTime() + GRACE_MS);
    }
    // A run that is begun again is the same start to everybody else.
    const restarted = state === 'running' && row.started_at !== null;
    if (state === 'running') row.started_at ??= now;
    if (isFinal(state)) {
      row.completed_at = now;
      row.due_at = null;
      if (row.callback_url !== null) row.callback_due_at = now;
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
    const since = row.started_at ?? row.created_at;
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
        output_bytes: row.output_bytes,
        output_truncated: row.output_truncated,
      },
      detail,
    );
  }

  note(status: string, detail?: string): void {
    this.changed = true;
    this.notes.push({ at: this.now.toISOString(), status, ...(detail ? { detail: detail.slice(0, 500) } : {}) });
  }
}
