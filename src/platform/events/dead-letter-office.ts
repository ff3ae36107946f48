import { Injectable } from '@nestjs/common';
import { Database } from '../database/index.js';
import { isAppError } from '../errors/index.js';
import { HandleJob, type JobContext, JobQueue, PostponeJob } from '../jobs/index.js';
import { Logger } from '../observability/index.js';
import type { StoredEvent } from './event-definition.js';
import { type EventHandler, EventHandlers } from './event-handlers.js';
import { SweepDeadLetters } from './events.jobs.js';

const MAX_ERROR = 1000;
/** Pause of a job that failed for good while that could not be written down. */
const PARK_AGAIN_MS = 30_000;
const DISPATCH = 200;
/** A retry that was given to the queue and has not ended is given again: the queue knows it, or has lost it. */
const AGAIN_SECONDS = 60;
const STALLED = 100;
const RETRY_JOB = /-dead-([0-9a-f-]{36})-(\d+)$/;

type Run = (payload: unknown, context: JobContext) => Promise<unknown>;

interface Waiting {
  id: string;
  handler: string;
  retries: number;
  event: StoredEvent;
}

/** Keeps what a handler could not take in all its attempts, and hands it over again when told to (row EVT-12). */
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
        if (retry) await this.db.query('DELETE FROM event_dead_letters WHERE id = $1', [retry[1]]);
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
      const [rows] = await this.db.manager.query<[Waiting[], number]>(
        `UPDATE event_dead_letters SET dispatched_at = now() WHERE id IN (
           SELECT id FROM event_dead_letters
           WHERE status = 'retrying' AND handler = ANY ($1)
             AND (dispatched_at IS NULL OR dispatched_at < now() - interval '${AGAIN_SECONDS} seconds')
           ORDER BY dispatched_at NULLS FIRST LIMIT ${DISPATCH} FOR UPDATE SKIP LOCKED)
         RETURNING id, handler, retries, event`,
        [this.handlers.names()],
      );
      await this.jobs.enqueueMany(
        rows.map(({ id, handler, retries, event }) => {
          const { job, many } = this.handlers.get(handler) as EventHandler;
          return { job, payload: many ? [event] : event, options: { jobId: `dead-${id}-${retries}` } };
        }),
      );
      if (rows.length < DISPATCH) return;
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
    await this.db.query(
      `INSERT INTO event_dead_letters AS d (handler, event_id, event_type, event, error, attempts)
       SELECT $1, e.id, e.type, e.event, $5, $6 FROM unnest($2::uuid[], $3::text[], $4::jsonb[]) AS e (id, type, event)
       ORDER BY e.id
       ON CONFLICT (handler, event_id) DO UPDATE SET error = excluded.error, attempts = d.attempts + excluded.attempts,
         failed_at = now(), status = 'failed'`,
      [
        handler.name,
        events.map(({ id }) => id),
        events.map(({ type }) => type),
        events.map((event) => JSON.stringify(event)),
        textOf(error),
        attempts,
      ],
    );
  }

  /** What was discarded in the meantime stays so. */
  private async parkAgain(id: string, retry: number, error: unknown, attempts: number): Promise<void> {
    await this.db.query(
      `UPDATE event_dead_letters SET status = 'failed', error = $3, attempts = attempts + $4, failed_at = now(),
         dispatched_at = NULL
       WHERE id = $1 AND retries = $2 AND status = 'retrying'`,
      [id, retry, textOf(error), attempts],
    );
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
