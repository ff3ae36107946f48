import type { Tx } from '../database/index.js';
import { Feature } from '../features/index.js';
import { appendMetadata } from '../jobs/index.js';

/** A kind of long operation, declared once; the types of its input and its checkpoint follow from it. */
export interface TaskDefinition<Input extends object, State extends object> {
  /** Dotted lower case: `<domain>.<what it does>`. */
  readonly kind: string;
  readonly queue: string;
  /** Names of its steps in their order; each is an equal part of the progress. None: the progress is of the whole. */
  readonly steps: readonly string[];
  /** Runs at most this often without a checkpoint in between, be it that the handler throws or its process dies; default 5. */
  readonly attempts: number;
  /** Pause before it runs again after a failure in milliseconds, doubled each time up to five minutes; default 2000. */
  readonly backoffMs: number;
  /** Tasks of the kind that run at once, in all processes together; default 1. */
  readonly concurrency: number;
  /** Tasks of the kind that may wait or run; more are refused; default 100. */
  readonly maxOpen: number;
  /** Never set; carry the types. */
  readonly input?: Input;
  readonly state?: State;
}

export type LogLevel = 'info' | 'warn' | 'error';

/** What a handler knows and says while it runs. */
export interface TaskContext<Input extends object, State extends object> {
  /** UUID. */
  readonly taskId: string;
  readonly input: Input;
  /** Argument of the last {@link checkpoint}, of this run or of one before that was cut off; null at the beginning. */
  readonly state: State | null;
  /** 1 for the first run. It is the fencing number too: what an older run still says is not written. */
  readonly attempt: number;
  /**
   * Aborted within a second or so when the task is cancelled, is another run's, or this process stops: the handler then throws
   * (`signal.throwIfAborted()`). One that returns has completed its task, unless that is not its own any more.
   */
  readonly signal: AbortSignal;
  /** Begins a step; those before it are complete. @throws TaskEnded when the task is not this run's any more */
  step(name: string): Promise<void>;
  /** How much of the current step (or of the whole, without steps) is done. Costs nothing: it is written once a second. */
  progress(done: number, total: number): void;
  /** Merges into the details that are shown with the task; written like the progress. */
  report(details: Record<string, unknown>): void;
  /** Adds a line to the task's log; of more than a thousand the newest are kept. */
  log(message: string, level?: LogLevel): void;
  /**
   * Keeps `state` for a run that has to take over. With `tx` it is written together with what that transaction does: then an effect and
   * the note that it is done are one, and a run that lost its task undoes its effect.
   * @throws TaskEnded when the task is not this run's any more
   */
  checkpoint(state: State, tx?: Tx): Promise<void>;
}

/** The task was cancelled, or has another run by now: the handler is to end. */
export class TaskEnded extends Error {}

type Options<Input extends object, State extends object> = Pick<TaskDefinition<Input, State>, 'kind' | 'queue'> &
  Partial<TaskDefinition<Input, State>>;

/** Defines a kind of background task; the module of its handler declares it with `BackgroundModule.forFeature`. */
export function defineBackgroundTask<Input extends object, State extends object = Record<string, never>>(
  options: Options<Input, State>,
): TaskDefinition<Input, State> {
  return {
    steps: [],
    attempts: 5,
    backoffMs: 2000,
    concurrency: 1,
    maxOpen: 100,
    ...options,
  };
}

/** A kind of background task, whatever its types. */
export type AnyTask = Pick<TaskDefinition<never, never>, 'kind'>;

/** The kinds of background tasks of each module. */
export const declaredTasks = new Feature<readonly AnyTask[]>();

export const HANDLE_TASK = Symbol('handle-task');

/**
 * Marks the one method that runs a kind of background task; what it returns is the result. It may be cut off anywhere and run again from its
 * last checkpoint, in any process.
 */
export function HandleTask<Input extends object, State extends object>(definition: TaskDefinition<Input, State>) {
  return <M extends (context: TaskContext<Input, State>) => Promise<object | void>>(
    target: object,
    name: string | symbol,
    descriptor: TypedPropertyDescriptor<M>,
  ): void => {
    appendMetadata(HANDLE_TASK, definition)(target, name, descriptor as TypedPropertyDescriptor<unknown>);
  };
}
