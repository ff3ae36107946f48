import { setTimeout as delay } from 'node:timers/promises';
import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import type { JobsOptions, Queue } from 'bullmq';
import { currentContext } from '../context/index.js';
import { AppError } from '../errors/index.js';
import { Logger } from '../observability/index.js';
import type { JobDefinition } from './job-definition.js';
import type { QueueBackend } from './queue-backend.js';

export interface EnqueueOptions {
  delayMs?: number;
  /** 1 is the most urgent; none is more urgent than any (BullMQ). */
  priority?: number;
  /** Overrides the definition's dedupe key. */
  jobId?: string;
}

export interface JobData {
  payload: unknown;
  requestId?: string;
}

/**
 * Seconds: long enough that a relay which does its last step again finds the jobs it added. No count beside it: on PostgreSQL
 * each completion would read all that are kept (1.4 ms at 2000).
 */
const KEEP_COMPLETED = { age: 60 };
const KEEP_FAILED = { age: 14 * 24 * 3600 };
/** Longest wait for the store; below the 10 s that a transaction may stand idle around it. */
const ANSWER_MS = 5000;
/** A queue whose first connection was refused is made anew after this time: the library keeps the refusal for good. */
const RENEW_MS = 1000;
/** Jobs whose adding is not answered yet; past it no more are taken. */
const MAX_UNANSWERED = 20_000;

/** Puts jobs on their queues. Not transactional: what must not be lost is also a row or an event of the outbox. */
@Injectable()
export class JobQueue implements OnApplicationShutdown {
  private readonly queues = new Map<string, Queue>();
  private closing = false;
  private unanswered = 0;

  constructor(
    @Inject('QUEUE_BACKEND') private readonly backend: QueueBackend,
    private readonly logger: Logger,
  ) {}

  /** @throws AppError `unavailable` when the store does not answer in time; the job may have been added all the same */
  async enqueue<Payload>(job: JobDefinition<Payload>, payload: Payload, options: EnqueueOptions = {}): Promise<void> {
    await this.bounded(1, () => this.queue(job.queue).add(job.name, dataOf(payload), optionsOf(job, payload, options)));
  }

  /**
   * One round trip per queue, for many jobs several times faster than one by one.
   * @throws AppError `unavailable` or the store's error; any of the jobs may have been added all the same
   */
  async enqueueMany(
    jobs: { job: JobDefinition<unknown>; payload: unknown; options?: EnqueueOptions; requestId?: string }[],
  ): Promise<void> {
    if (jobs.length === 0) return;
    const byQueue = new Map<string, { name: string; data: JobData; opts: JobsOptions }[]>();
    for (const { job, payload, options, requestId } of jobs) {
      const entry = { name: job.name, data: dataOf(payload, requestId), opts: optionsOf(job, payload, options ?? {}) };
      const list = byQueue.get(job.queue);
      if (list) list.push(entry);
      else byQueue.set(job.queue, [entry]);
    }
    await this.bounded(jobs.length, () =>
      Promise.all(
        [...byQueue].map(([name, entries]): Promise<unknown> => {
          const [{ name: kind, data, opts }] = entries;
          // In PostgreSQL a bulk of any size makes tables of its own first.
          return entries.length === 1 ? this.queue(name).add(kind, data, opts) : this.queue(name).addBulk(entries);
        }),
      ),
    );
  }

  private async bounded(count: number, add: () => Promise<unknown>): Promise<void> {
    if (this.unanswered >= MAX_UNANSWERED) throw AppError.unavailable('The job queues do not answer');
    this.unanswered += count;
    const adding = add().finally(() => (this.unanswered -= count));
    // When nobody waits for it any more.
    adding.catch(() => undefined);
    const timeout = new AbortController();
    const late = delay(ANSWER_MS, undefined, { signal: timeout.signal }).then(() => {
      throw AppError.unavailable('The job queues do not answer');
    });
    late.catch(() => undefined);
    await Promise.race([adding, late]).finally(() => timeout.abort());
  }

  queue(name: string): Queue {
    let queue = this.queues.get(name);
    if (!queue) {
      queue = this.backend.queue(name, {});
      queue.on('error', (error: Error) => {
        // A connection that ends in a stop is no news.
        if (this.closing) return;
        this.logger.warnRepeated(this.backend.store, { queue: name, err: error.message }, 'Queue connection failed');
      });
      this.queues.set(name, queue);
      queue.waitUntilReady().catch(() => setTimeout(() => this.drop(name, queue as Queue), RENEW_MS).unref());
    }
    return queue;
  }

  private drop(name: string, queue: Queue): void {
    if (this.queues.get(name) === queue) this.queues.delete(name);
    void queue.close().catch(() => undefined);
  }

  async onApplicationShutdown(): Promise<void> {
    this.closing = true;
    await Promise.allSettled([...this.queues.values()].map((q) => q.close()));
    await this.backend.close();
  }
}

function dataOf(payload: unknown, requestId = currentContext()?.requestId): JobData {
  return { payload, requestId };
}

function optionsOf<Payload>(job: JobDefinition<Payload>, payload: Payload, options: EnqueueOptions): JobsOptions {
  const key = options.jobId ?? job.dedupe?.(payload);
  return {
    attempts: job.attempts,
    backoff: { type: 'exponential', delay: job.backoffMs, jitter: 0.5 },
    removeOnComplete: KEEP_COMPLETED,
    removeOnFail: KEEP_FAILED,
    ...(key ? { jobId: `${job.name}-${key}`.replaceAll(':', '-') } : {}),
    ...(options.delayMs ? { delay: options.delayMs } : {}),
    ...(options.priority ? { priority: options.priority } : {}),
  };
}
