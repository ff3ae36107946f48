import { Injectable, type OnModuleInit } from '@nestjs/common';
import { type Actor, currentContext } from '../context/index.js';
import { Database, type Tx } from '../database/index.js';
import { AppError } from '../errors/index.js';
import { HandleJob } from '../jobs/index.js';
import { Metrics } from '../observability/index.js';
import { Bus } from '../realtime/index.js';
import { type BackgroundTask, TASK_COLUMNS, type TaskLogLine, type TaskStatus } from './background-task.js';
import { SweepTasks } from './background.jobs.js';
import type { TaskDefinition } from './task-definition.js';
import { initialSteps } from './task-progress.js';
import { CANCELLED, TaskRunner } from './task-runner.js';

/** Seconds after which one may ask again for a task of a kind that has too many open. */
const ASK_AGAIN_SECONDS = 30;

/** Long operations: begun in a request, run by the workers, watched and cancelled from anywhere. */
@Injectable()
export class BackgroundTasks implements OnModuleInit {
  constructor(
    private readonly db: Database,
    private readonly runner: TaskRunner,
    private readonly bus: Bus,
    private readonly metrics: Metrics,
  ) {}

  onModuleInit(): void {
    const { db } = this;
    this.metrics.sharedGauge(
      'nexus_background_tasks_pending',
      'Background tasks that wait or run',
      ['kind', 'status'],
      async function () {
        const rows = await db
          .query<{ kind: string; status: string; n: number }>(
            `SELECT kind, status, count(*)::int AS n FROM background_tasks WHERE status IN ('queued', 'running')
             GROUP BY kind, status`,
          )
          .catch(() => undefined);
        if (!rows) return;
        this.reset();
        for (const { kind, status, n } of rows) this.set({ kind, status }, n);
      },
    );
  }

  /**
   * The task begins when, and only when, `tx` commits.
   * @throws AppError `rate_limited` when too many tasks of the kind are open
   */
  async start<Input extends object, State extends object>(
    tx: Tx,
    definition: TaskDefinition<Input, State>,
    input: Input,
    actor: Pick<Actor, 'id'>,
  ): Promise<BackgroundTask<Input>> {
    const { kind, maxOpen, steps } = definition;
    const [row] = await tx.query<BackgroundTask<Input>[]>(
      `INSERT INTO background_tasks (kind, input, steps, created_by, request_id)
       SELECT $1, $2, $3, $4, $5
       WHERE $6 > (SELECT count(*) FROM background_tasks WHERE kind = $1 AND status IN ('queued', 'running'))
       RETURNING ${TASK_COLUMNS}`,
      [
        kind,
        JSON.stringify(input),
        JSON.stringify(initialSteps(steps)),
        actor.id,
        currentContext()?.requestId ?? null,
        maxOpen,
      ],
    );
    if (!row) {
      throw new AppError('rate_limited', `${maxOpen} operations of this kind are waiting or running`, {
        retryAfter: ASK_AGAIN_SECONDS,
        details: { kind, limit: maxOpen },
      });
    }
    this.db.afterCommit(tx, () => this.runner.wake());
    return row;
  }

  /** The task of that kind, if there is one. `id` is its UUID. */
  async find<Input extends object, State extends object>(
    definition: TaskDefinition<Input, State>,
    id: string,
  ): Promise<BackgroundTask<Input> | null> {
    const [row] = await this.db.query<BackgroundTask<Input>>(
      `SELECT ${TASK_COLUMNS} FROM background_tasks WHERE id = $1 AND kind = $2`,
      [id, definition.kind],
    );
    return row ?? null;
  }

  /** Of any kind. `id` is its UUID. @throws AppError `not_found` */
  async get(id: string): Promise<BackgroundTask> {
    const [row] = await this.db.query<BackgroundTask>(`SELECT ${TASK_COLUMNS} FROM background_tasks WHERE id = $1`, [
      id,
    ]);
    if (!row) throw AppError.notFound('task', id);
    return row;
  }

  /** The newest first. `after` are the `created_at` and `id` of the last one seen. */
  list(
    filter: { kinds?: readonly string[]; status?: TaskStatus },
    page: { limit: number; offset?: number; after?: [at: unknown, id: unknown] },
  ): Promise<BackgroundTask[]> {
    return this.db.query<BackgroundTask>(
      `SELECT ${TASK_COLUMNS} FROM background_tasks
       WHERE ($1::text[] IS NULL OR kind = ANY ($1)) AND ($2::text IS NULL OR status = $2)
         AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::uuid))
       ORDER BY created_at DESC, id DESC LIMIT $3 OFFSET $4`,
      [filter.kinds ?? null, filter.status ?? null, page.limit, page.offset ?? 0, ...(page.after ?? [null, null])],
    );
  }

  /** Lines of a task's log after place `after`, in order. */
  logs(id: string, after = '0', limit = 1000): Promise<TaskLogLine[]> {
    return this.db.query<TaskLogLine>(
      `SELECT n, at, level, message FROM background_task_logs WHERE task_id = $1 AND n > $2::bigint ORDER BY n LIMIT $3`,
      [id, after, limit],
    );
  }

  /**
   * Ends a task at once: nothing that its run still writes counts. The run itself hears of it within a second or so.
   * One that is cancelled already stays as it is.
   * @throws AppError `not_found`, or `conflict` when it has ended otherwise
   */
  async cancel(tx: Tx, id: string, actor: Pick<Actor, 'id'>): Promise<BackgroundTask> {
    const [[row]] = await tx.query<[BackgroundTask[], number]>(
      `UPDATE background_tasks SET status = 'cancelled', cancelled_by = $2, heartbeat_at = NULL, finished_at = now(),
         updated_at = now()
       WHERE id = $1 AND status IN ('queued', 'running') RETURNING ${TASK_COLUMNS}`,
      [id, actor.id],
    );
    if (!row) {
      const ended = await this.get(id);
      const { status } = ended;
      if (status === 'cancelled') return ended;
      throw AppError.conflict(`It has ended already: it is ${status}`, { status });
    }
    this.db.afterCommit(tx, () => {
      this.bus.publish(CANCELLED, { id });
      this.runner.wake();
    });
    return row;
  }

  @HandleJob(SweepTasks)
  sweep(): Promise<void> {
    return this.runner.dispatch();
  }
}
