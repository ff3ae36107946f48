import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { Database } from '../database/index.js';
import { CheckFailed, HealthRegistry, Logger } from '../observability/index.js';
import { isFrequent, isScheduled, type JobDefinition } from './job-definition.js';
import { JobQueue } from './job-queue.js';
import { JobRegistry } from './job-registry.js';
import type { QueueBackend } from './queue-backend.js';
import { lastRuns, noteRuns } from './schedules.queries.js';

const ENSURE_MS = 15_000;
/** After the store was away or refused something. */
const ENSURE_SOON_MS = 1000;
/** A schedule whose next run is this long overdue has lost its job. */
const OVERDUE_MS = 60_000;
/** How much later than twice its step the last run of a schedule may be. */
const STALE_MS = 60_000;

/**
 * Sets up the schedules of jobs in the store, but for those that {@link FrequentSchedules} runs, and, by a plain timer, sets them up
 * again: a store that lost its data has lost them too, and nothing in it would ever start another run. Notes in PostgreSQL when each has
 * last run.
 */
@Injectable()
export class JobSchedules implements OnModuleInit {
  private readonly ran = new Set<string>();
  private timer: NodeJS.Timeout | undefined;
  private soonTimer: NodeJS.Timeout | undefined;
  private ensuring: Promise<void> | undefined;
  private stopped = false;

  constructor(
    @Inject('QUEUE_BACKEND') private readonly backend: QueueBackend,
    private readonly registry: JobRegistry,
    private readonly jobs: JobQueue,
    private readonly db: Database,
    private readonly health: HealthRegistry,
    private readonly logger: Logger,
  ) {}

  onModuleInit(): void {
    this.health.register('schedules', () => this.check());
  }

  /** From now on, until {@link stop}. */
  start(): void {
    this.timer = setInterval(() => void this.ensureAll(), ENSURE_MS);
  }

  stop(): void {
    this.stopped = true;
    clearInterval(this.timer);
    clearTimeout(this.soonTimer);
  }

  /** The store was lost or refused something: what it holds is looked at as soon as it answers again. */
  ensureSoon(): void {
    if (this.stopped || this.soonTimer) return;
    this.soonTimer = setTimeout(() => {
      this.soonTimer = undefined;
      void this.ensureAll();
    }, ENSURE_SOON_MS);
  }

  noteRun(job: string): void {
    this.ran.add(job);
  }

  /** Drops the schedules that this version no longer has in the store and sets up the others. */
  async setUp(queueName: string): Promise<void> {
    const queue = this.jobs.queue(queueName);
    for (const { key } of await queue.getJobSchedulers()) {
      const definition = this.registry.get(key)?.definition;
      if (definition?.queue === queueName && isScheduled(definition) && !isFrequent(definition)) continue;
      await queue.removeJobScheduler(key);
      this.logger.info({ queue: queueName, job: key }, 'Removed a schedule that this version does not have');
    }
    await Promise.all(this.inStore(queueName).map((definition) => this.schedule(definition)));
  }

  private ensureAll(): Promise<void> {
    this.ensuring ??= this.ensure()
      .catch(async (error: unknown) => {
        if (this.stopped) return;
        this.logger.warn({ err: String(error) }, 'The schedules could not be looked at; trying again');
        // The tables of the queues may have been dropped.
        await this.backend.prepare().catch(() => undefined);
        this.ensureSoon();
      })
      .finally(() => (this.ensuring = undefined));
    return this.ensuring;
  }

  private async ensure(): Promise<void> {
    // First, so that it is also known while the store is away.
    await this.writeRuns();
    for (const queueName of this.registry.queues()) {
      const expected = this.inStore(queueName);
      if (expected.length === 0) continue;
      const found = new Map((await this.jobs.queue(queueName).getJobSchedulers()).map(({ key, next }) => [key, next]));
      for (const definition of expected) {
        const next = found.get(definition.name);
        if (next != null && Number(next) > Date.now() - OVERDUE_MS) continue;
        await this.schedule(definition);
        this.logger.warn({ queue: queueName, job: definition.name }, 'Set up a schedule that the store had lost');
      }
    }
  }

  private async schedule(definition: JobDefinition<unknown>): Promise<void> {
    const { name, queue, everyMs: every, cron: pattern, attempts, backoffMs } = definition;
    await this.jobs.queue(queue).upsertJobScheduler(name, pattern === undefined ? { every } : { pattern, tz: 'UTC' }, {
      name,
      data: { payload: {} },
      opts: {
        attempts,
        backoff: { type: 'exponential', delay: backoffMs, jitter: 0.5 },
        removeOnComplete: { count: 10 },
        removeOnFail: { count: 100 },
      },
    });
  }

  private scheduled(): JobDefinition<unknown>[] {
    return this.registry
      .all()
      .map(({ definition }) => definition)
      .filter(isScheduled);
  }

  private inStore(queueName: string): JobDefinition<unknown>[] {
    return this.scheduled().filter((definition) => definition.queue === queueName && !isFrequent(definition));
  }

  /** For all together, far less often than the fastest of them run. */
  private async writeRuns(): Promise<void> {
    const names = [...this.ran].filter((name) => this.registry.get(name)?.definition.everyMs !== undefined).sort();
    this.ran.clear();
    if (names.length === 0) return;
    await noteRuns(this.db.manager, names);
  }

  /** Of schedules with a fixed step only; the daily ones cannot be late while those are not. */
  private async check(): Promise<Record<string, unknown>> {
    const rows = await lastRuns(this.db.manager);
    const runs = new Map(rows.map((row) => [row.job, row]));
    const late = this.scheduled()
      .filter(({ name, everyMs = Infinity }) => {
        // Where none has run yet, this process's start counts.
        const age = Math.min(runs.get(name)?.ageMs ?? Infinity, process.uptime() * 1000);
        return age > 2 * everyMs + STALE_MS;
      })
      .map(({ name }) => name);
    const newest = Math.max(...rows.map(({ lastRunAt }) => lastRunAt.getTime()));
    const details = { last_run: rows.length === 0 ? null : new Date(newest).toISOString(), late };
    if (late.length > 0) throw new CheckFailed('Schedules are late', details);
    return details;
  }
}
