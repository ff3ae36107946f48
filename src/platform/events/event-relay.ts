import { type BeforeApplicationShutdown, Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { runDetached } from '../context/index.js';
import { advisoryLock, Database } from '../database/index.js';
import { JobQueue } from '../jobs/index.js';
import { Logger } from '../observability/index.js';
import { isExpired } from './event-definition.js';
import { EventJobs, HandlingInRelayFailed } from './event-jobs.js';
import { placeEvents, tryLock } from './outbox.queries.js';

/** Also the time after which a crash of the process that wrote an event is made good by another. */
const POLL_MS = 1000;
/** Pause after a round, in milliseconds: short beside what a reader of a live stream notices, long beside a round. */
const REST_MS = 25;
const RELAY_LOCK = advisoryLock('events.relay');

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
      if (!(await tryLock(tx, RELAY_LOCK))) {
        // Another process is at work, and may have looked before the newest event was there.
        this.again = true;
        return false;
      }
      const { events, more, few } = await placeEvents(tx, this.quiet);
      this.quiet = few;
      if (events.length === 0) return false;
      // What has expired gets its place all the same: readers of places would take a hole for a loss.
      const live = events.filter((event) => !isExpired(event));
      // Before the commit: when this process dies here the events are still unrelayed and the job ids stay the same.
      await this.jobs.enqueueMany(await this.eventJobs.ofAll(tx, live, inRelay));
      const upTo = events[events.length - 1].seq;
      this.db.afterCommit(tx, () => this.placedListeners.forEach((listener) => listener(upTo)));
      return more;
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
