export type TaskStatus = 'queued' | 'running' | 'completed' | 'failed' | 'cancelled';

export interface TaskStep {
  name: string;
  status: 'pending' | 'running' | 'completed';
  /** 0 to 100. */
  progress: number;
}

export interface TaskError {
  code: string;
  message: string;
}

/** A row of `background_tasks` as others may see it. */
export interface BackgroundTask<Input extends object = Record<string, unknown>> {
  id: string;
  kind: string;
  status: TaskStatus;
  /** 0 to 100. */
  progress: number;
  steps: TaskStep[];
  current_step: string | null;
  input: Input;
  details: Record<string, unknown>;
  result: Record<string, unknown> | null;
  error: TaskError | null;
  created_by: string;
  cancelled_by: string | null;
  /** Number of runs begun. */
  attempt: number;
  created_at: Date;
  started_at: Date | null;
  updated_at: Date;
  finished_at: Date | null;
}

export const TASK_COLUMNS = `id, kind, status, progress, steps, current_step, input, details, result, error, created_by,
  cancelled_by, attempt, created_at, started_at, updated_at, finished_at`;

export interface TaskLogLine {
  /** Place in the log; grows without being dense. */
  n: string;
  at: Date;
  level: 'info' | 'warn' | 'error';
  message: string;
}
