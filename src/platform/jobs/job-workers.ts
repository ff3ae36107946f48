import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { type BeforeApplicationShutdown, Inject, Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { DelayedError, type Job, UnrecoverableError, type Worker } from 'bullmq';
import { Settings } from '../config/index.js';
import { runInContext, systemActor } from '../context/index.js';
import { isAppError } from '../errors/index.js';
import { Logger, Metrics } from '../observability/index.js';
import { FrequentSchedules } from './frequent-schedules.js';
import type { JobDefinition } from './job-definition.js';
import type { JobData } from './job-queue.js';
import { JobRegistry } from './job-registry.js';
import { JobSchedules } from './job-schedules.js';
import { PostponeJob } from './postpone-job.js';
import type { QueueBackend } from './queue-backend.js';
import { restAfterErrors } from './rest-after-errors.js';

const CONCURRENCY = 16;
/** Longest wait for running jobs when the server stops. */
const GRACE_MS = 15_000;
const STEP_MS = 50;
const GOODBYE_MS = 2000;
/** A job whose kind only a newer version knows is left to it, in the middle of a deployment, for this long. */
const UNKNOWN_KIND_MS = 3_600_000;
const UNKNOWN_KIND_PAUSE_MS = 10_000;
/** Longest that a start waits for the workers; they go on trying behind it. */
const START_WAIT_MS = 5000;
/** First pause before a worker is made anew, doubled up to the longest. */
const RETRY_MS = 500;
const MAX_RETRY_MS = 5000;

/** Runs the handlers: one BullMQ worker per queue that has any, in the roles `all` and `worker`. */
@Injectable()
export class JobWorkers implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly workers = new Set<Worker>();
  private readonly stopping = new AbortController();
  private running = 0;
  private readonly duration;

  constructor(
    @Inject('QUEUE_BACKEND') private readonly backend: QueueBackend,
    private readonly settings: Settings,
    private readonly registry: JobRegistry,
    private readonly schedules: JobSchedules,
    private readonly frequent: FrequentSchedules,
    private readonly logger: Logger,
    metrics: Metrics,
  ) {
    this.duration = metrics.histogram('nexus_job_duration_seconds', 'Time a job ran', ['job_name', 'outcome']);
  }

  async onApplicationBootstrap(): Promise<void> {
    this.registry.assertComplete();
    if (!this.settings.runsWorkers) return;
    const queues = this.registry.queues();
    const started = Promise.all([
      ...queues.map((name) => this.untilDone(name, () => this.startWorker(name))),
      ...queues.map((name) => this.untilDone(name, () => this.schedules.setUp(name))),
    ]);
    this.schedules.start();
    this.frequent.start((definition) => this.runScheduled(definition));
    await Promise.race([started, delay(START_WAIT_MS, undefined, { ref: false })]);
  }

  /** Repeats a step of the start until the store lets it through: a store that is short of connections now has some later. */
  private async untilDone(queue: string, step: () => Promise<void>): Promise<void> {
    const { signal } = this.stopping;
    for (let pause = RETRY_MS; !signal.aborted; pause = Math.min(2 * pause, MAX_RETRY_MS)) {
      try {
        return await step();
      } catch (error) {
        if (signal.aborted) return;
        this.logger.warn({ queue, err: String(error) }, 'The jobs of a queue cannot be run yet; trying again');
        await delay(pause, undefined, { signal, ref: false }).catch(() => undefined);
      }
    }
  }

  /**
   * The library keeps the outcome of its first connection for good and a worker asks again without a pause after such an error:
   * a worker runs only once it is connected, and is made anew when it could not be.
   */
  private async startWorker(queue: string): Promise<void> {
    const worker = this.makeWorker(queue);
    this.workers.add(worker);
    try {
      await worker.waitUntilReady();
    } catch (error) {
      this.workers.delete(worker);
      await worker.close();
      throw error;
    }
    restAfterErrors(worker, this.stopping.signal);
    worker.run().catch((error: unknown) => this.logger.error({ queue, err: String(error) }, 'A worker ended'));
  }

  private makeWorker(queue: string): Worker {
    const worker = this.backend.worker(queue, (job: Job<JobData>, token, signal) => this.run(job, token, signal), {
      autorun: false,
      concurrency: CONCURRENCY,
      lockDuration: 15_000,
      stalledInterval: 10_000,
      maxStalledCount: 20,
      // After the store was away; the library would wait 15 s.
      runRetryDelay: 1000,
    });
    worker.on('error', (error) => {
      // A connection that ends in a stop is no news.
      if (this.stopping.signal.aborted) return;
      this.schedules.ensureSoon();
      this.logger.warnRepeated(this.backend.store, { queue, err: error.message }, 'Worker connection failed');
    });
    worker.on('ioredis:close', () => this.schedules.ensureSoon());
    // Another worker may have the job by now: this run is to end without further effect.
    worker.on('lockRenewalFailed', (ids) => {
      for (const id of ids) worker.cancelJob(id, 'The job was lost to another worker');
    });
    worker.on('failed', (job, error) => {
      this.logger.warn(
        { queue, job: job?.name, job_id: job?.id, attempt: job?.attemptsMade, err: error.message },
        'Job failed',
      );
    });
    return worker;
  }

  private async run(job: Job<JobData>, token?: string, signal?: AbortSignal): Promise<unknown> {
    const handler = this.registry.get(job.name);
    if (!handler) {
      if (Date.now() - job.timestamp < UNKNOWN_KIND_MS) return this.handBack(job, token, UNKNOWN_KIND_PAUSE_MS);
      throw new UnrecoverableError(`No handler for the job ${job.name}`);
    }
    const { payload, requestId = `req_job_${randomUUID()}` } = job.data;
    const context = { requestId, startedAt: performance.now(), actor: systemActor };
    const end = this.duration.startTimer({ job_name: job.name });
    this.running++;
    try {
      const result = await runInContext(context, () =>
        handler.run(payload, {
          jobId: String(job.id),
          attempt: job.attemptsMade + 1,
          signal: signal ? AbortSignal.any([signal, this.stopping.signal]) : this.stopping.signal,
        }),
      );
      this.schedules.noteRun(job.name);
      end({ outcome: 'completed' });
      return result ?? null;
    } catch (error) {
      if (error instanceof PostponeJob) {
        end({ outcome: 'postponed' });
        return this.handBack(job, token, error.pauseMs);
      }
      // A refusal by the domain stays a refusal however often it is tried.
      const refused = isAppError(error) && !error.retryable;
      if (this.stopping.signal.aborted && !refused) {
        end({ outcome: 'interrupted' });
        return this.handBack(job, token, 0);
      }
      end({ outcome: 'failed' });
      if (refused) throw new UnrecoverableError(storable(error.message));
      throw storableError(error);
    } finally {
      this.running--;
    }
  }

  /** A run that is not repeated when it fails: the next is near. */
  private async runScheduled({ name }: JobDefinition<unknown>): Promise<void> {
    const context = { requestId: `req_job_${randomUUID()}`, startedAt: performance.now(), actor: systemActor };
    const { signal } = this.stopping;
    const end = this.duration.startTimer({ job_name: name });
    this.running++;
    try {
      await runInContext(context, async () => this.registry.get(name)?.run({}, { jobId: name, attempt: 1, signal }));
      this.schedules.noteRun(name);
      end({ outcome: 'completed' });
    } catch (error) {
      end({ outcome: signal.aborted ? 'interrupted' : 'failed' });
      if (!signal.aborted) this.logger.warn({ job: name, err: String(error) }, 'Job failed');
    } finally {
      this.running--;
    }
  }

  /** Leaves the job to any worker, this one or another, after a pause; it does not count as a try. */
  private async handBack(job: Job<JobData>, token: string | undefined, pauseMs: number): Promise<never> {
    await job.moveToDelayed(Date.now() + pauseMs, token);
    throw new DelayedError();
  }

  /**
   * Takes no more jobs, tells the running ones to stop and lets them end (15 s). The rest is cut: their locks expire and
   * another worker takes them. Before anything is closed that handlers need, the database first of all.
   */
  async beforeApplicationShutdown(): Promise<void> {
    this.schedules.stop();
    this.frequent.stop();
    const closing = Promise.allSettled([...this.workers].map((worker) => worker.close()));
    this.stopping.abort(new Error('The worker is stopping'));
    const end = performance.now() + GRACE_MS;
    while (this.running > 0 && performance.now() < end) await delay(STEP_MS);
    if (this.running > 0) this.logger.warn('Some jobs did not end in time; another worker will run them again');
    // Without its store a worker would wait for good to say goodbye.
    await Promise.race([closing, delay(GOODBYE_MS, undefined, { ref: false })]);
  }
}

/** Without what PostgreSQL cannot store: a failure that cannot be written down would leave the job to stall. */
function storable(text: string): string {
  return text.replaceAll('\0', '\uFFFD');
}

function storableError(error: unknown): unknown {
  if (!(error instanceof Error) || !`${error.message}${error.stack}`.includes('\0')) return error;
  const clean = new Error(storable(error.message));
  clean.stack = storable(error.stack ?? '');
  return clean;
}
