import { Injectable, type OnApplicationBootstrap, type OnModuleInit } from '@nestjs/common';
import { DiscoveryService, MetadataScanner } from '@nestjs/core';
import { runDetached } from '../context/index.js';
import { isAppError } from '../errors/index.js';
import { discoverMethods, type JobContext, type JobDefinition, JobQueue, JobRegistry } from '../jobs/index.js';
import { Logger, Metrics } from '../observability/index.js';
import { assertHandled, Features } from '../features/index.js';
import { Bus } from '../realtime/index.js';
import type { TaskError } from './background-task.js';
import { declaredTasks, HANDLE_TASK, type TaskDefinition, TaskEnded } from './task-definition.js';
import { TaskRun } from './task-run.js';
import { TaskStore } from './task-store.js';

/** Bus channel: `{ id }` is cancelled. */
export const CANCELLED = 'background.cancelled';
/** Also the longest time until a run hears that its task was cancelled, should the bus lose the message. */
const BEAT_MS = 1000;
const MAX_PAUSE_MS = 300_000;

interface TaskJob {
  id: string;
}
type Handle = (run: TaskRun) => Promise<object | void>;

interface Kind {
  definition: TaskDefinition<object, object>;
  job: JobDefinition<TaskJob>;
}

/** Runs background tasks in the workers: one job per run, one heartbeat per process and second for all of its runs. */
@Injectable()
export class TaskRunner implements OnModuleInit, OnApplicationBootstrap {
  private readonly kinds = new Map<string, Kind>();
  private readonly runs = new Set<TaskRun>();
  private timer: NodeJS.Timeout | undefined;
  private beating = false;
  private readonly outcomes;

  constructor(
    private readonly store: TaskStore,
    private readonly jobs: JobQueue,
    private readonly registry: JobRegistry,
    private readonly logger: Logger,
    private readonly bus: Bus,
    private readonly discovery: DiscoveryService,
    private readonly scanner: MetadataScanner,
    private readonly features: Features,
    metrics: Metrics,
  ) {
    this.outcomes = metrics.counter('nexus_background_tasks_total', 'Runs of background tasks', ['kind', 'outcome']);
  }

  onModuleInit(): void {
    const found = discoverMethods<TaskDefinition<object, object>>(this.discovery, this.scanner, HANDLE_TASK);
    for (const { meta: definition, call } of found) {
      const { kind, queue } = definition;
      if (this.kinds.has(kind)) throw new Error(`Background task ${kind} has two handlers`);
      // The row says how often it is tried; these attempts are for a claim that the database refused.
      const job: JobDefinition<TaskJob> = { name: `background.${kind}`, queue, attempts: 3, backoffMs: 1000 };
      this.kinds.set(kind, { definition, job });
      this.registry.register(job as JobDefinition<unknown>, (payload, context) =>
        this.run((payload as TaskJob).id, definition, call as Handle, context),
      );
    }
    this.bus.subscribe<{ id: string }>(CANCELLED, ({ id }) => {
      for (const run of this.runs) if (run.taskId === id) run.end();
    });
  }

  /** @throws Error naming every declared task without a handler */
  onApplicationBootstrap(): void {
    const kinds = this.features.of(declaredTasks).flatMap((tasks) => tasks.map(({ kind }) => kind));
    assertHandled('Background task', kinds, this.kinds);
  }

  /** Gives what is due to the workers. What cannot be given now is given by a later sweep. */
  async dispatch(): Promise<void> {
    const due = await this.store.due([...this.kinds.values()].map(({ definition }) => definition));
    if (due.length === 0) return;
    const entries = due.map(({ id, kind, dispatches }) => ({
      job: (this.kinds.get(kind) as Kind).job as JobDefinition<unknown>,
      payload: { id },
      options: { jobId: `${id}-${dispatches}` },
    }));
    try {
      await this.jobs.enqueueMany(entries);
    } catch (error) {
      await this.store.undispatch(due.map(({ id }) => id));
      throw error;
    }
  }

  /** {@link dispatch}, without waiting. */
  wake(): void {
    runDetached(() => this.dispatch()).catch((error: unknown) =>
      this.logger.warn({ err: String(error) }, 'Background tasks wait for the next sweep'),
    );
  }

  private async run(
    id: string,
    definition: TaskDefinition<object, object>,
    handle: Handle,
    { signal }: JobContext,
  ): Promise<void> {
    const task = await this.store.claim(id, definition);
    if (!task) return;
    const run = new TaskRun(task, this.store, signal);
    if (task.failures >= definition.attempts) {
      await this.fail(run, { code: 'INTERRUPTED', message: 'Its process ended each time before it got any further' });
      return;
    }
    this.begin(run);
    try {
      const result = await handle(run);
      this.over(run);
      await run.writeLog();
      const done = await this.store.finish(run.complete(), { status: 'completed', result: result ?? {} });
      this.outcomes.inc({ kind: definition.kind, outcome: done ? 'completed' : 'ended' });
    } catch (error) {
      this.over(run);
      await run.writeLog();
      await this.settle(run, definition, error, signal);
    }
    // Another of its kind may have waited for this one.
    this.wake();
  }

  /** After a run that did not come to its end. */
  private async settle(
    run: TaskRun,
    definition: TaskDefinition<object, object>,
    error: unknown,
    signal: AbortSignal,
  ): Promise<void> {
    const { kind, attempts, backoffMs } = definition;
    if (run.isEnded || error instanceof TaskEnded) {
      this.outcomes.inc({ kind, outcome: 'ended' });
      return;
    }
    if (signal.aborted) {
      await this.store.putBack(run.snapshot, 0, false);
      this.outcomes.inc({ kind, outcome: 'interrupted' });
      throw error;
    }
    const refused = isAppError(error) && !error.retryable;
    const failures = (run.hasProgressed ? 0 : run.task.failures) + 1;
    this.logger.warn({ task: kind, task_id: run.taskId, attempt: run.attempt, err: String(error) }, 'A task failed');
    if (refused || failures >= attempts) {
      await this.fail(run, errorOf(error));
      return;
    }
    await this.store.putBack(run.snapshot, Math.min(MAX_PAUSE_MS, backoffMs * 2 ** (failures - 1)), true);
    this.outcomes.inc({ kind, outcome: 'retried' });
  }

  private async fail(run: TaskRun, error: TaskError): Promise<void> {
    run.log(error.message, 'error');
    await run.writeLog();
    await this.store.finish(run.snapshot, { status: 'failed', error });
    this.outcomes.inc({ kind: run.task.kind, outcome: 'failed' });
  }

  private begin(run: TaskRun): void {
    this.runs.add(run);
    this.timer ??= setInterval(() => void this.beat(), BEAT_MS);
  }

  private over(run: TaskRun): void {
    this.runs.delete(run);
    if (this.runs.size > 0) return;
    clearInterval(this.timer);
    this.timer = undefined;
  }

  private async beat(): Promise<void> {
    if (this.beating) return;
    this.beating = true;
    const runs = [...this.runs];
    try {
      const states = runs.map((run) => run.snapshot);
      const ours = await runDetached(() => this.store.beat(states));
      for (const [n, run] of runs.entries()) {
        if (!ours.includes(states[n])) run.end();
        else await run.writeLog();
      }
    } catch (error) {
      this.logger.warn({ err: String(error) }, 'Background tasks could not show that they live');
    } finally {
      this.beating = false;
    }
  }
}

/** What of an error the owner of the task may see. */
function errorOf(error: unknown): TaskError {
  if (isAppError(error)) return { code: error.code, message: error.message };
  return { code: 'INTERNAL_ERROR', message: 'The task failed for a reason that is in the server’s log' };
}
