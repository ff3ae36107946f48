import { Injectable, type OnModuleInit } from '@nestjs/common';
import { In, MoreThan } from 'typeorm';
import { type Actor, currentContext } from '../context/index.js';
import { Database, findForUpdate, insertRow, type Tx } from '../database/index.js';
import { AppError } from '../errors/index.js';
import { type Page, pageNewestFirst } from '../http/index.js';
import { HandleJob } from '../jobs/index.js';
import { Metrics } from '../observability/index.js';
import { Bus } from '../realtime/index.js';
import { BackgroundTaskLog } from './background-task-log.entity.js';
import { BackgroundTask } from './background-task.entity.js';
import type { TaskStatus } from './background-task.js';
import { countOpen } from './background.queries.js';
import { SweepTasks } from './background.jobs.js';
import type { TaskDefinition } from './task-definition.js';
import { initialSteps } from './task-progress.js';
import { CANCELLED, TaskRunner } from './task-runner.js';

/** Seconds after which one may ask again for a task of a kind that has too many open. */
const ASK_AGAIN_SECONDS = 30;
const OPEN: TaskStatus[] = ['queued', 'running'];

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
        const rows = await countOpen(db).catch(() => undefined);
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
    if ((await tx.countBy(BackgroundTask, { kind, status: In(OPEN) })) >= maxOpen) {
      throw new AppError('rate_limited', `${maxOpen} operations of this kind are waiting or running`, {
        retryAfter: ASK_AGAIN_SECONDS,
        details: { kind, limit: maxOpen },
      });
    }
    const task = await insertRow<BackgroundTask<Input>>(tx, BackgroundTask, {
      kind,
      input,
      steps: initialSteps(steps),
      createdBy: actor.id,
      requestId: currentContext()?.requestId ?? null,
    });
    this.db.afterCommit(tx, () => this.runner.wake());
    return task;
  }

  /** The task of that kind, if there is one. `id` is its UUID. */
  find<Input extends object, State extends object>(
    definition: TaskDefinition<Input, State>,
    id: string,
  ): Promise<BackgroundTask<Input> | null> {
    return this.db.repository<BackgroundTask<Input>>(BackgroundTask).findOne({ where: { id, kind: definition.kind } });
  }

  /** Of any kind. `id` is its UUID. @throws AppError `not_found` */
  async get(id: string): Promise<BackgroundTask> {
    const task = await this.db.repository(BackgroundTask).findOneBy({ id });
    if (!task) throw AppError.notFound('task', id);
    return task;
  }

  /** The newest first. */
  async list(filter: { kinds?: readonly string[]; status?: TaskStatus }, page: Page): Promise<BackgroundTask[]> {
    const list = this.db.repository(BackgroundTask).createQueryBuilder('task');
    if (filter.kinds) list.andWhere({ kind: In(filter.kinds) });
    if (filter.status) list.andWhere({ status: filter.status });
    return (await pageNewestFirst(list, page)).rows;
  }

  /** Lines of a task's log after place `after`, in order. */
  logs(taskId: string, after = 0, limit = 1000): Promise<BackgroundTaskLog[]> {
    return this.db
      .repository(BackgroundTaskLog)
      .find({ where: { taskId, n: MoreThan(after) }, order: { n: 'ASC' }, take: limit });
  }

  /**
   * Ends a task at once: nothing that its run still writes counts. The run itself hears of it within a second or so.
   * One that is cancelled already stays as it is.
   * @throws AppError `not_found`, or `conflict` when it has ended otherwise
   */
  async cancel(tx: Tx, id: string, actor: Pick<Actor, 'id'>): Promise<BackgroundTask> {
    const task = await findForUpdate(tx, BackgroundTask, { id });
    if (!task) throw AppError.notFound('task', id);
    const { status } = task;
    if (status === 'cancelled') return task;
    if (!OPEN.includes(status)) throw AppError.conflict(`It has ended already: it is ${status}`, { status });
    const changes = { status: 'cancelled', cancelledBy: actor.id, heartbeatAt: null } as const;
    await tx.update(BackgroundTask, { id }, { ...changes, finishedAt: () => 'now()' });
    this.db.afterCommit(tx, () => {
      this.bus.publish(CANCELLED, { id });
      this.runner.wake();
    });
    return tx.findOneByOrFail(BackgroundTask, { id });
  }

  @HandleJob(SweepTasks)
  sweep(): Promise<void> {
    return this.runner.dispatch();
  }
}
