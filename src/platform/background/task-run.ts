import type { Tx } from '../database/index.js';
import type { ClaimedTask, LogEntry, RunState } from './background.queries.js';
import type { TaskContext } from './task-definition.js';
import { type LogLevel, TaskEnded } from './task-definition.js';
import { beginStep, overall, percent } from './task-progress.js';
import type { TaskStore } from './task-store.js';

const MAX_MESSAGE = 2000;
/** Lines between two writes; of more the newest are kept. */
const MAX_WAITING_LINES = 1000;

/** One run of a task in this process: what its handler says, gathered until it is written. */
export class TaskRun implements TaskContext<object, object> {
  readonly taskId: string;
  readonly input: object;
  readonly attempt: number;
  readonly signal: AbortSignal;
  state: object | null;
  /** Whether this run has come as far as a checkpoint. */
  hasProgressed = false;
  private readonly ended = new AbortController();
  private current: RunState;
  private lines: LogEntry[] = [];

  /** `stopping` is aborted when this process is to end its work. */
  constructor(
    readonly task: ClaimedTask,
    private readonly store: TaskStore,
    stopping: AbortSignal,
  ) {
    const { id, attempt, progress, steps, currentStep, details } = task;
    this.taskId = id;
    this.input = task.input;
    this.attempt = attempt;
    this.state = task.checkpoint;
    this.current = { id, attempt, progress, steps, currentStep, details };
    this.signal = AbortSignal.any([this.ended.signal, stopping]);
  }

  /** The task is not this run's any more. */
  end(): void {
    this.ended.abort(new TaskEnded('The task was cancelled or has another run'));
  }

  get isEnded(): boolean {
    return this.ended.signal.aborted;
  }

  get snapshot(): RunState {
    return this.current;
  }

  async step(name: string): Promise<void> {
    const steps = beginStep(this.current.steps, name);
    this.current = { ...this.current, steps, currentStep: name, progress: overall(steps) };
    if ((await this.store.beat([this.current])).length === 0) this.lost();
    await this.writeLog();
  }

  progress(done: number, total: number): void {
    const part = percent(done, total);
    if (this.current.steps.length === 0) {
      this.current = { ...this.current, progress: part };
      return;
    }
    const name = this.current.currentStep;
    const steps = this.current.steps.map((step) => (step.name === name ? { ...step, progress: part } : step));
    this.current = { ...this.current, steps, progress: overall(steps) };
  }

  report(details: Record<string, unknown>): void {
    this.current = { ...this.current, details: { ...this.current.details, ...details } };
  }

  log(message: string, level: LogLevel = 'info'): void {
    // PostgreSQL stores no NUL.
    this.lines.push({ at: new Date(), level, message: message.slice(0, MAX_MESSAGE).replaceAll('\0', '\uFFFD') });
    if (this.lines.length > MAX_WAITING_LINES) this.lines.shift();
  }

  async checkpoint(state: object, tx?: Tx): Promise<void> {
    if (!(await this.store.checkpoint(this.current, state, tx))) this.lost();
    this.state = state;
    this.hasProgressed = true;
  }

  /** All is done. */
  complete(): RunState {
    const steps = this.current.steps.map((step) => ({ ...step, status: 'completed' as const, progress: 100 }));
    return { ...this.current, steps, progress: 100 };
  }

  /** Writes the lines that wait; they are a help, and their loss fails nothing. */
  async writeLog(): Promise<void> {
    const lines = this.lines;
    if (lines.length === 0) return;
    this.lines = [];
    await this.store.addLog(this.taskId, lines).catch(() => undefined);
  }

  private lost(): never {
    this.end();
    throw this.ended.signal.reason;
  }
}
