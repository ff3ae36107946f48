import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { runDetached } from '../platform/context/index.js';
import { databaseErrorKind, isDataError, isTransient } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { HealthRegistry, Logger, Metrics } from '../platform/observability/index.js';
import { Partitions } from './partitions.js';
import { type Submission, TelemetryStore } from './telemetry-store.js';
import type { TelemetryRow } from './telemetry-event.js';

/** Transactions in work at once: while one waits for the disk the next is being sent. */
const FLUSHES = 3;
/** With less than this waiting, the next flush waits for the one in work: fewer and fuller transactions cost far less. */
const ROWS_WORTH_ANOTHER = 250;
const FLUSH_ROWS = 4000;
const FLUSH_CHARACTERS = 8_000_000;
/** How long a flush waits for the clients that the one before has just answered: many little ones cost more than a moment. */
const GATHER_MS = 1;
/** What may wait; more is refused with 503 before memory grows. */
const QUEUE_ROWS = 50_000;
const QUEUE_CHARACTERS = 64_000_000;
/** How long a flush is tried again while the database is away; longer than a crashed one needs to be back. */
const RETRY_FOR_MS = 5000;

interface Waiting {
  submission: Submission;
  size: number;
  resolve: () => void;
  reject: (error: unknown) => void;
}

/**
 * Group commit: submissions wait in a bounded queue and are stored many at a time; a flush starts as soon as one of the
 * few connections is free. Rows carry their ids before the first try, so trying again after a lost connection, when nobody
 * knows whether the commit happened, stores nothing twice.
 */
@Injectable()
export class TelemetryWriter {
  private queue: Waiting[] = [];
  /** Rows of `queue`, and those in work as well. */
  private waitingRows = 0;
  private queuedRows = 0;
  private queuedCharacters = 0;
  private inFlight = 0;
  private scheduled = false;
  private failing = false;
  private readonly committedListeners: ((rows: readonly TelemetryRow[]) => void)[] = [];
  private readonly flushRows;
  private readonly flushSeconds;

  constructor(
    private readonly store: TelemetryStore,
    private readonly partitions: Partitions,
    private readonly logger: Logger,
    metrics: Metrics,
    health: HealthRegistry,
  ) {
    const sizes = [1, 10, 50, 100, 500, 1000, 2000, 4000];
    this.flushRows = metrics.histogram('nexus_telemetry_flush_rows', 'Events stored by one transaction', [], sizes);
    this.flushSeconds = metrics.histogram('nexus_telemetry_flush_duration_seconds', 'Time of one transaction');
    const depth = (): number => this.queuedRows;
    metrics.gauge('nexus_telemetry_queue_events', 'Events waiting for their transaction', [], function () {
      this.set(depth());
    });
    health.register('telemetry', () => {
      if (this.failing) return Promise.reject(new Error('the last flush failed'));
      return Promise.resolve({ queued_events: this.queuedRows, flushes_in_work: this.inFlight });
    });
  }

  /** `listener` gets the rows of each flush, with their outcomes, before those who wait for it; it must not throw. */
  onCommitted(listener: (rows: readonly TelemetryRow[]) => void): void {
    this.committedListeners.push(listener);
  }

  /**
   * Resolves once the submission is committed, with its outcomes set.
   * @throws AppError `unavailable` when the queue is full or the database stays away
   */
  write(submission: Submission): Promise<void> {
    const size = submission.rows.reduce((sum, row) => sum + row.size, 0);
    if (this.queuedRows + submission.rows.length > QUEUE_ROWS || this.queuedCharacters + size > QUEUE_CHARACTERS) {
      return Promise.reject(AppError.unavailable('More telemetry is waiting than can be stored', 1));
    }
    this.queuedRows += submission.rows.length;
    this.waitingRows += submission.rows.length;
    this.queuedCharacters += size;
    return new Promise((resolve, reject) => {
      this.queue.push({ submission, size, resolve, reject });
      this.schedule();
    });
  }

  /** Requests that were read in the same turn of the event loop share a flush. */
  private schedule(gather = false): void {
    if (this.scheduled || !this.mayFlush()) return;
    this.scheduled = true;
    const start = (): void => {
      this.scheduled = false;
      while (this.mayFlush()) void this.flush(this.take());
    };
    // One flush begins the next: none of them belongs to the request that came first, nor ends with its time.
    runDetached(() => (gather ? setTimeout(() => setImmediate(start), GATHER_MS) : setImmediate(start)));
  }

  private mayFlush(): boolean {
    if (this.queue.length === 0 || this.inFlight >= FLUSHES) return false;
    return this.inFlight === 0 || this.waitingRows >= ROWS_WORTH_ANOTHER;
  }

  private take(): Waiting[] {
    let rows = 0;
    let characters = 0;
    let count = 0;
    for (const { submission, size } of this.queue) {
      if (count > 0 && (rows + submission.rows.length > FLUSH_ROWS || characters + size > FLUSH_CHARACTERS)) break;
      rows += submission.rows.length;
      characters += size;
      count++;
    }
    this.waitingRows -= rows;
    return this.queue.splice(0, count);
  }

  private async flush(taken: Waiting[]): Promise<void> {
    this.inFlight++;
    const end = this.flushSeconds.startTimer();
    try {
      await this.storeAll(taken);
      end();
      this.flushRows.observe(taken.reduce((sum, { submission }) => sum + submission.rows.length, 0));
    } finally {
      for (const { submission, size } of taken) {
        this.queuedRows -= submission.rows.length;
        this.queuedCharacters -= size;
      }
      this.inFlight--;
      const fuller = this.queue.length < taken.length && this.waitingRows < ROWS_WORTH_ANOTHER;
      if (this.queue.length > 0) this.schedule(fuller);
    }
  }

  /** Settles every one of `taken`; never throws. */
  private async storeAll(taken: Waiting[]): Promise<void> {
    try {
      await this.storePatiently(taken.map((w) => w.submission));
      this.committed(taken.flatMap((w) => w.submission.rows));
      for (const { resolve } of taken) resolve();
    } catch (error) {
      if (isDataError(error) && taken.length > 1) {
        // One bad row must not fail its neighbours: everyone by himself.
        for (const one of taken) await this.storeAll([one]);
      } else if (isDataError(error)) {
        await this.storeWithoutBad(taken[0]);
      } else {
        this.logger.error({ err: (error as Error).message, submissions: taken.length }, 'Telemetry not stored');
        for (const { reject } of taken) reject(answerTo(error));
      }
    }
  }

  private async storeWithoutBad(waiting: Waiting): Promise<void> {
    const { submission, resolve, reject } = waiting;
    try {
      for (const row of await this.findBad(submission.rows)) {
        row.outcome = 'refused';
        if (!submission.batch) continue;
        submission.batch.rejectedCount++;
        submission.batch.errors.push({
          index: row.index,
          field: '',
          issue: 'holds a value that cannot be stored',
          expected: 'values that PostgreSQL can store',
        });
      }
      await this.storePatiently([submission]);
      this.committed(submission.rows);
      resolve();
    } catch (error) {
      reject(answerTo(error));
    }
  }

  private committed(rows: readonly TelemetryRow[]): void {
    for (const listener of this.committedListeners) listener(rows);
  }

  /** The rows that the database refuses, found by halving. */
  private async findBad(rows: TelemetryRow[]): Promise<TelemetryRow[]> {
    if (rows.length === 0 || (await this.store.probe(rows))) return [];
    if (rows.length === 1) return rows;
    const middle = rows.length >> 1;
    return [...(await this.findBad(rows.slice(0, middle))), ...(await this.findBad(rows.slice(middle)))];
  }

  private async storePatiently(submissions: Submission[]): Promise<void> {
    const end = performance.now() + RETRY_FOR_MS;
    for (let attempt = 1; ; attempt++) {
      try {
        await this.partitions.ensureFor(rowsOf(submissions));
        await this.store.store(submissions);
        this.failing = false;
        return;
      } catch (error) {
        if (!isTransient(error)) throw error;
        this.failing = true;
        if (performance.now() > end) throw error;
        await sleep(Math.min(500, 20 * 2 ** attempt) * (0.5 + Math.random()));
      }
    }
  }
}

function* rowsOf(submissions: Submission[]): Iterable<TelemetryRow> {
  for (const { rows } of submissions) yield* rows;
}

/** What is answered when the database stays away; a full disk and a read-only database have answers of their own. */
function answerTo(cause: unknown): unknown {
  const kind = databaseErrorKind(cause);
  if (!isTransient(cause) || kind === 'disk_full' || kind === 'no_writes') return cause;
  return new AppError('unavailable', 'Telemetry cannot be stored at the moment', { retryAfter: 1, cause });
}
