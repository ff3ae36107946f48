import { Feature } from '../features/index.js';

/** A kind of job: its name, queue and retry policy, declared once; payload types of producer and handler follow from it. */
export interface JobDefinition<Payload> {
  readonly name: string;
  readonly queue: string;
  /** Runs at most this often when the handler throws; default 5. */
  readonly attempts: number;
  /** First pause before a retry in milliseconds, doubled each time, with jitter; default 1000. */
  readonly backoffMs: number;
  /** Enqueueing a job whose key is still queued or kept adds nothing. */
  readonly dedupe?: (payload: Payload) => string;
  /** Set for a job that the scheduler starts by itself: every so many milliseconds, one run across all workers. */
  readonly everyMs?: number;
  /** Set for a job that the scheduler starts by a cron pattern (UTC). */
  readonly cron?: string;
}

export interface JobContext {
  readonly jobId: string;
  /** 1 for the first run. */
  readonly attempt: number;
  /** Aborted when the job is cancelled or the worker stops. */
  readonly signal: AbortSignal;
}

type Options<Payload> = Pick<JobDefinition<Payload>, 'name' | 'queue'> & Partial<JobDefinition<Payload>>;

/** Defines a job; the module of its handler declares it with `JobsModule.forFeature`. */
export function defineJob<Payload = Record<string, never>>(options: Options<Payload>): JobDefinition<Payload> {
  return { attempts: 5, backoffMs: 1000, ...options };
}

/** The jobs of each module. */
export const declaredJobs = new Feature<readonly AnyJob[]>();

/** A job whatever its payload. */
export type AnyJob = Pick<JobDefinition<never>, 'name'>;

const FREQUENT_MS = 60_000;

/** Whether it is repeated within a minute: workers claim its runs in PostgreSQL, and the queues know nothing of it. */
export function isFrequent(
  definition: JobDefinition<unknown>,
): definition is JobDefinition<unknown> & { everyMs: number } {
  return definition.everyMs !== undefined && definition.everyMs < FREQUENT_MS;
}

/** Whether the scheduler starts it by itself. */
export function isScheduled(definition: JobDefinition<unknown>): boolean {
  return definition.everyMs !== undefined || definition.cron !== undefined;
}
