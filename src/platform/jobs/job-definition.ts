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

const declared = new Map<string, JobDefinition<unknown>>();

/** Declares a job. Boot fails when a declared job has no handler or two (see {@link JobRegistry}). */
export function defineJob<Payload = Record<string, never>>(options: Options<Payload>): JobDefinition<Payload> {
  const definition: JobDefinition<Payload> = { attempts: 5, backoffMs: 1000, ...options };
  if (declared.has(definition.name)) throw new Error(`Job ${definition.name} is declared twice`);
  declared.set(definition.name, definition as JobDefinition<unknown>);
  return definition;
}

export function declaredJobs(): readonly JobDefinition<unknown>[] {
  return [...declared.values()];
}

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
