import { Injectable } from '@nestjs/common';
import { Database } from '../database/index.js';
import { isAppError } from '../errors/index.js';
import { HandleJob, type JobContext, JobQueue, PostponeJob } from '../jobs/index.js';
import { Logger } from '../observability/index.js';
import { DeadLetter } from './dead-letter.entity.js';
import { park, parkAgain, takeWaiting } from './dead-letters.queries.js';
import type { StoredEvent } from './event-definition.js';
import { type EventHandler, EventHandlers } from './event-handlers.js';
import { SweepDeadLetters } from './events.jobs.js';

const MAX_ERROR = 1000;
/** Pause of a job that failed for good while that could not be written down. */
const PARK_AGAIN_MS = 30_000;
const STALLED = 100;
const RETRY_JOB = /-dead-([0-9a-f-]{36})-(\d+)$/;

type Run = (payload: unknown, context: JobContext) => Promise<unknown>;

/** Keeps what a handler could not take in all its attempts, and hands it over again when told to. */
@Injectable()
export class DeadLetterOffice {
  constructor(
    private readonly db: Database,
    private readonly jobs: JobQueue,
    private readonly handlers: EventHandlers,
    private readonly logger: Logger,
  ) {}

  /** `run` with its final failure written down; in the database, because the queue's own list of failures is lost with Redis. */
  guard(handler: EventHandler, run: Run): Run {
    return async (payload, context) => {
      const retry = RETRY_JOB.exec(context.jobId);
      try {
        const result = await run(payload, context);
        if (retry) await this.db.repository(DeadLetter).delete({ id: retry[1] });
        return result;
      } catch (error) {
        if (!isFinal(error, handler, context)) throw error;
        const parking = retry
          ? this.parkAgain(retry[1], Number(retry[2]), error, context.attempt)
          : this.park(handler, eventsOf(payload), error, context.attempt);
        await parking.catch((cause: unknown) => {
          this.logger.warn({ handler: handler.name, err: String(cause) }, 'A failed event could not be written down');
          throw new PostponeJob(PARK_AGAIN_MS, { cause });
        });
        throw error;
      }
    };
  }

  /** Gives the queue what is to be tried again. */
  async dispatch(): Promise<void> {
    for (;;) {
      const { letters, more } = await takeWaiting(this.db.manager, this.handlers.names());
      await this.jobs.enqueueMany(
        letters.map(({ id, handler, retries, event }) => {
          const { job, many } = this.handlers.get(handler) as EventHandler;
          return { job, payload: many ? [event] : event, options: { jobId: `dead-${id}-${retries}` } };
        }),
      );
      if (!more) return;
    }
  }

  @HandleJob(SweepDeadLetters)
  async sweep(): Promise<void> {
    await this.dispatch();
    await this.parkStalled();
  }

  /** Jobs that ended their process each time: they failed without their handler's knowing. */
  private async parkStalled(): Promise<void> {
    for (const queue of this.handlers.queues()) {
      const failed = await this.jobs.queue(queue).getFailed(0, STALLED - 1);
      for (const job of failed) {
        const handler = this.handlers.ofJob(job.name);
        if (!handler || !job.failedReason?.includes('stalled')) continue;
        const { payload } = job.data as { payload: unknown };
        const retry = RETRY_JOB.exec(String(job.id));
        const error = new Error('Its process ended each time before the handler did');
        if (retry) await this.parkAgain(retry[1], Number(retry[2]), error, job.attemptsMade);
        else await this.park(handler, eventsOf(payload), error, Math.max(1, job.attemptsMade));
        await job.remove();
      }
    }
  }

  private async park(handler: EventHandler, events: StoredEvent[], error: unknown, attempts: number): Promise<void> {
    await park(this.db.manager, handler.name, events, { error: textOf(error), attempts });
  }

  private async parkAgain(id: string, retries: number, error: unknown, attempts: number): Promise<void> {
    await parkAgain(this.db.manager, { id, retries }, { error: textOf(error), attempts });
  }
}

function isFinal(error: unknown, { job }: EventHandler, { attempt, signal }: JobContext): boolean {
  if (error instanceof PostponeJob) return false;
  if (isAppError(error) && !error.retryable) return true;
  // What a stopping worker cuts off is tried again by another.
  return !signal.aborted && attempt >= job.attempts;
}

function eventsOf(payload: unknown): StoredEvent[] {
  return (Array.isArray(payload) ? payload : [payload]) as StoredEvent[];
}

/** Without what PostgreSQL cannot store. */
function textOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.slice(0, MAX_ERROR).replaceAll('\0', '\uFFFD');
}
