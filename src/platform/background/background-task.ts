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
