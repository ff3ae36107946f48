import { type BeforeApplicationShutdown, Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { runDetached } from '../context/index.js';
import { advisoryLock, Database, prepared } from '../database/index.js';
import { JobQueue } from '../jobs/index.js';
import { Logger } from '../observability/index.js';
import { isExpired } from './event-definition.js';
import { EventJobs, HandlingInRelayFailed } from './event-jobs.js';
import { EVENT_COLUMNS, type EventRow, toStoredEvent } from './event-row.js';

const BATCH = 500;
/** Of a round after one that found few: its plan is kept. */
const QUIET_BATCH = 16;
/** Of the events of a batch, which the relay and the jobs hold in memory; a single larger event is a batch of its own. */
const BATCH_BYTES = 8 * 1024 * 1024;
/** What is not compressed need not be read to know its size. */
const EVENT_BYTES = ['data', 'metadata']
  .map(
    (name) => `coalesce(CASE WHEN pg_column_compression(${name}) IS NULL THEN pg_column_size(${name})
      ELSE octet_length(${name}::text) END, 0)`,
  )
  .join(' + ');
/** Also the time after which a crash of the process that wrote an event is made good by another. */
const POLL_MS = 1000;
/** Pause after a round, in milliseconds: short beside what a reader of a live stream notices, long beside a round. */
const REST_MS = 25;
const RELAY_LOCK = advisoryLock('events.relay');
const relay = (batch: number): string =>
  `WITH waiting AS (
     SELECT id, position, ${EVENT_BYTES} AS bytes
     FROM events WHERE relayed_at IS NULL ORDER BY position LIMIT ${batch}
   ), sized AS (
     SELECT id, position, sum(bytes) OVER up_to AS bytes, row_number() OVER up_to AS n, count(*) OVER () AS waiting
     FROM waiting WINDOW up_to AS (ORDER BY position ROWS UNBOUNDED PRECEDING)
   ), placed AS (
     SELECT id, waiting, nextval('events_seq') AS seq
     FROM (SELECT id, waiting FROM sized WHERE n = 1 OR bytes <= ${BATCH_BYTES} ORDER BY position) ordered
   )
   UPDATE events e SET seq = coalesce(e.seq, p.seq), relayed_at = now()
   FROM placed p WHERE e.id = p.id
   RETURNING ${EVENT_COLUMNS.map((name) => `e.${name}`).join()}, p.waiting::int`;
/** Planned anew: how a large batch is best joined depends on the size of the outbox. */
const RELAY = relay(BATCH);
const RELAY_QUIET = prepared('events.relay', relay(QUIET_BATCH));
const LOCK = prepared('events.relayLock', 'SELECT pg_try_advisory_xact_lock($1) AS locked');

/**
 * Takes events out of the outbox in order: gives each its place and adds one job per subscriber, or lets it handle them here. One
 * relay works at a time (advisory lock); what a crash left between two steps is done again, at least once. It starts at once when
 * it is idle; under load it rests between its rounds, so that a round and its jobs serve many events.
 */
@Injectable()
export class EventRelay implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private running: Promise<void> | undefined;
  private resting: NodeJS.Timeout | undefined;
  private again = false;
  /** Whether the last round found few events. */
  private quiet = true;
  private stopped = true;
  private timer: NodeJS.Timeout | undefined;
  private readonly placedListeners: ((upTo: string) => void)[] = [];

  constructor(
    private readonly db: Database,
    private readonly jobs: JobQueue,
    private readonly eventJobs: EventJobs,
    private readonly logger: Logger,
  ) {}

  onApplicationBootstrap(): void {
    this.stopped = false;
    this.timer = setInterval(() => this.wake(), POLL_MS);
    this.wake();
  }

  /** Relays what is waiting, soon; calls in the meantime are folded into one more round. */
  wake(): void {
    if (this.stopped) return;
    if (this.running || this.resting) {
      this.again = true;
      return;
    }
    // Whoever woke it: the relay works for all, not in that one's request.
    this.running = runDetached(() => this.drain())
      .catch((error: unknown) => {
        // Not at once, whoever asks: another process may fare better, and the next poll is near.
        this.again = false;
        this.logger.warn({ err: String(error) }, 'The event relay failed and will try again');
      })
      .finally(() => {
        this.running = undefined;
        this.rest();
      });
  }

  private rest(): void {
    this.resting = setTimeout(() => {
      this.resting = undefined;
      if (!this.again) return;
      this.again = false;
      this.wake();
    }, REST_MS);
  }

  private async drain(): Promise<void> {
    while (!this.stopped && (await this.relayBatch()));
  }

  /** `listener` is called after each commit of this process's relay with the place of the newest event. */
  onPlaced(listener: (upTo: string) => void): void {
    this.placedListeners.push(listener);
  }

  /** @returns whether more may be waiting */
  private async relayBatch(): Promise<boolean> {
    try {
      return await this.relayOnce(true);
    } catch (error) {
      if (!(error instanceof HandlingInRelayFailed)) throw error;
      this.logger.warn({ err: error.message }, 'Events could not be handled as they were relayed; they become jobs');
      return this.relayOnce(false);
    }
  }

  private relayOnce(inRelay: boolean): Promise<boolean> {
    return this.db.transaction(async (tx) => {
      const [{ locked }] = await tx.query<{ locked: boolean }[]>(LOCK, [RELAY_LOCK]);
      if (!locked) {
        // Another process is at work, and may have looked before the newest event was there.
        this.again = true;
        return false;
      }
      const batch = this.quiet ? QUIET_BATCH : BATCH;
      const [rows] = await tx.query<[(EventRow & { waiting: number })[], number]>(this.quiet ? RELAY_QUIET : RELAY);
      this.quiet = rows.length < QUIET_BATCH;
      if (rows.length === 0) return false;
      const [{ waiting }] = rows;
      const events = rows
        .map(({ waiting: _waiting, ...row }) => toStoredEvent(row))
        .sort((a, b) => (BigInt(a.seq) < BigInt(b.seq) ? -1 : 1));
      // What has expired gets its place all the same: readers of places would take a hole for a loss.
      const live = events.filter((event) => !isExpired(event));
      // Before the commit: when this process dies here the events are still unrelayed and the job ids stay the same.
      await this.jobs.enqueueMany(await this.eventJobs.ofAll(tx, live, inRelay));
      const upTo = events[events.length - 1].seq;
      this.db.afterCommit(tx, () => this.placedListeners.forEach((listener) => listener(upTo)));
      return rows.length < waiting || waiting === batch;
    });
  }

  /** Before the queues and the database are closed. */
  async beforeApplicationShutdown(): Promise<void> {
    this.stopped = true;
    clearInterval(this.timer);
    clearTimeout(this.resting);
    await this.running;
  }
}
