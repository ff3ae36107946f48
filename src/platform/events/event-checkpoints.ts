import { type BeforeApplicationShutdown, Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { In, IsNull, Not } from 'typeorm';
import { Settings } from '../config/index.js';
import { runDetached } from '../context/index.js';
import { advisoryLock, Database, type Tx } from '../database/index.js';
import { JobQueue, StoreMarker } from '../jobs/index.js';
import { Logger } from '../observability/index.js';
import { isExpired } from './event-definition.js';
import { EventCheckpoint } from './event-checkpoint.entity.js';
import { type EventHandler, EventHandlers } from './event-handlers.js';
import { EventJobs } from './event-jobs.js';
import { EventStoreMarker } from './event-store-marker.entity.js';
import { DomainEvent } from './event.entity.js';
import { advanceCheckpoints, relayedEvents, tryLock } from './outbox.queries.js';

const ROUND_MS = 5000;
const CHECKPOINT_LOCK = advisoryLock('events.checkpoints');
/** Jobs of one queue that are looked at; behind a longer queue the checkpoints of its subscribers stay where they are. */
const MAX_OUTSTANDING = 1000;
const BATCH = 500;
const OUTSTANDING = ['waiting', 'prioritized', 'active', 'delayed'] as const;
/** The event of a job, or the first one of several; dead letters that are tried again are kept in a table of their own. */
const EVENT_JOB = /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:-\d+)?$/;

/**
 * Keeps a checkpoint for each subscriber: all events up to it were handled or are dead letters. The store of the queues holds a number
 * that grows with each round and is also in PostgreSQL. When the store does not know the newest one, it has lost jobs (Redis was
 * flushed or failed over, the tables of the queues were dropped), and every event behind a checkpoint is relayed again.
 */
@Injectable()
export class EventCheckpoints implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<void> | undefined;

  constructor(
    private readonly db: Database,
    private readonly jobs: JobQueue,
    private readonly marker: StoreMarker,
    private readonly handlers: EventHandlers,
    private readonly eventJobs: EventJobs,
    private readonly settings: Settings,
    private readonly logger: Logger,
  ) {}

  onApplicationBootstrap(): void {
    if (this.settings.runsWorkers) this.timer = setInterval(() => this.begin(), ROUND_MS);
  }

  async beforeApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    await this.running;
  }

  private begin(): void {
    this.running ??= runDetached(() => this.round())
      .catch((error: unknown) => {
        this.logger.warn({ err: String(error) }, 'The checkpoints of events could not be kept; trying again');
      })
      .finally(() => (this.running = undefined));
  }

  /** One process at a time. */
  private async round(): Promise<void> {
    await this.db.transaction(async (tx) => {
      if (!(await tryLock(tx, CHECKPOINT_LOCK))) return;
      const { value: expected } = await tx.findOneByOrFail(EventStoreMarker, { one: true });
      const last = await tx.findOne(DomainEvent, {
        select: { id: true, seq: true },
        where: { seq: Not(IsNull()), relayedAt: Not(IsNull()) },
        order: { seq: 'DESC' },
      });
      const newest = last?.seq ?? 0;
      const found = await this.marker.read();
      if (expected > 0 && (found === null || found < expected)) await this.relayAgain(tx, newest);
      else await this.advance(tx, newest);
      // In the store first: a crash in between leaves it ahead, which is no loss. Made only where a loss has been mended.
      if (found === null) await this.marker.create(expected + 1);
      else await this.marker.advance(expected + 1);
      await tx.update(EventStoreMarker, { one: true }, { value: expected + 1 });
    });
  }

  private async advance(tx: Tx, newest: number): Promise<void> {
    const reached: EventCheckpoint[] = [];
    for (const queue of this.handlers.queues()) {
      const ids = await this.outstanding(queue);
      if (!ids) continue;
      const own = this.handlers.all().filter(({ job }) => job.queue === queue);
      for (const handler of own) {
        reached.push({ handler: handler.name, seq: await this.reachedBy(tx, handler, ids, newest) });
      }
    }
    if (reached.length > 0) await advanceCheckpoints(tx, reached);
  }

  /** Ids of all jobs that have not ended; null when there are too many. Asked twice, because jobs change their state in between. */
  private async outstanding(queue: string): Promise<string[] | null> {
    const found = new Set<string>();
    for (let i = 0; i < 2; i++) {
      for (const state of OUTSTANDING) {
        const ids = await this.jobs.queue(queue).getRanges([state], 0, MAX_OUTSTANDING);
        if (ids.length > MAX_OUTSTANDING) return null;
        for (const id of ids) found.add(id);
      }
    }
    return [...found];
  }

  private async reachedBy(tx: Tx, { job }: EventHandler, ids: string[], newest: number): Promise<number> {
    const prefix = `${job.name}-`;
    const events = ids
      .filter((id) => id.startsWith(prefix))
      .flatMap((id) => EVENT_JOB.exec(id.slice(prefix.length))?.[1] ?? []);
    if (events.length === 0) return newest;
    const oldest = await tx.findOne(DomainEvent, {
      select: { id: true, seq: true },
      where: { id: In(events), seq: Not(IsNull()) },
      order: { seq: 'ASC' },
    });
    return oldest?.seq ? oldest.seq - 1 : newest;
  }

  private async relayAgain(tx: Tx, newest: number): Promise<void> {
    let count = 0;
    for (const { handler: name, seq } of await tx.find(EventCheckpoint)) {
      const handler = this.handlers.get(name);
      if (handler) count += await this.relayBehind(tx, handler, seq, newest);
    }
    this.logger.warn(
      { jobs: count },
      'The store of the queues has lost its data; the events that were not handled yet have been relayed again',
    );
  }

  private async relayBehind(tx: Tx, handler: EventHandler, after: number, newest: number): Promise<number> {
    let count = 0;
    for (let place = after; ;) {
      const events = await relayedEvents(tx, { after: place, last: newest, type: handler.type, limit: BATCH });
      const jobs = await this.eventJobs.of(
        handler,
        tx,
        events.filter((event) => !isExpired(event)),
      );
      await this.jobs.enqueueMany(jobs);
      count += jobs.length;
      if (events.length < BATCH) return count;
      place = Number(events[events.length - 1].seq);
    }
  }
}
