import { type BeforeApplicationShutdown, Injectable } from '@nestjs/common';
import { IsNull, Not } from 'typeorm';
import { runDetached } from '../context/index.js';
import { Database } from '../database/index.js';
import { Logger } from '../observability/index.js';
import { Bus } from '../realtime/index.js';
import type { StoredEvent } from './event-definition.js';
import { EventRelay } from './event-relay.js';
import { DomainEvent } from './event.entity.js';
import { EventsRemoved } from './events-removed.entity.js';
import { eventsAfter } from './outbox.queries.js';

/** Tells every process how far the relay has come: `{ upTo: seq }`. */
const PLACED = 'events.placed';

const BATCH = 500;
/** A message of the bus can be lost. */
const POLL_MS = 1000;

type Listener = (event: StoredEvent) => void;

/**
 * All events in their order, in every process, soon after the relay has placed them: for what wants to know now and keeps its own
 * place (live streams), while `@OnEvent` is for what must be done. Nothing is read while nobody listens.
 */
@Injectable()
export class EventFeed implements BeforeApplicationShutdown {
  private readonly listeners = new Set<Listener>();
  private reader: Reader | undefined;

  constructor(
    private readonly db: Database,
    private readonly bus: Bus,
    private readonly logger: Logger,
    relay: EventRelay,
  ) {
    relay.onPlaced((upTo) => bus.publish(PLACED, { upTo }));
  }

  /**
   * Calls `listener` (a function of its own for each call) with every event placed after {@link started} resolves, once and in
   * order.
   * @returns a function that ends the subscription
   */
  subscribe(listener: Listener): () => void {
    this.listeners.add(listener);
    if (!this.reader) {
      this.reader = new Reader(this, this.listeners, this.logger);
      this.reader.unsubscribe = this.bus.subscribe(PLACED, () => this.reader?.wake());
      this.reader.wake();
    }
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size === 0) this.stop();
    };
  }

  /** Resolves once the events after some place are being read; subscribers of before hear all that follow. Rejects when none is there. */
  async started(): Promise<void> {
    if (!this.reader) throw new Error('Nobody has subscribed to the feed');
    await this.reader.started;
  }

  /** Events placed after `seq`, in order. Those from before the oldest one kept are gone: see {@link oldestSeq}. */
  since(seq: string, limit: number): Promise<StoredEvent[]> {
    return eventsAfter(this.db.manager, seq, limit);
  }

  /** Place of an event by its UUID; null when it is not kept any more or was not placed yet. */
  async placeOf(id: string): Promise<string | null> {
    const event = await this.db.repository(DomainEvent).findOne({ select: { id: true, seq: true }, where: { id } });
    return event?.seq?.toString() ?? null;
  }

  /** Place of the newest event; `0` when there is none. */
  async newestSeq(): Promise<string> {
    return (await this.firstSeq('DESC')) ?? '0';
  }

  /** Place of the oldest event that is kept; null when there is none. */
  oldestSeq(): Promise<string | null> {
    return this.firstSeq('ASC');
  }

  /** Place of the newest event that was purged; `0` when there is none. From before it, what follows is not all there was. */
  async removedUpTo(): Promise<string> {
    const { upTo } = await this.db.repository(EventsRemoved).findOneByOrFail({ one: true });
    return String(upTo);
  }

  /** Place of the newest event that listeners were told of; undefined before {@link started} resolves. */
  get place(): string | undefined {
    return this.reader?.place;
  }

  /** True while listeners cannot be told, because the events cannot be read. */
  get failing(): boolean {
    return this.reader?.failing ?? false;
  }

  async beforeApplicationShutdown(): Promise<void> {
    const reading = this.reader?.reading;
    this.stop();
    await reading;
  }

  private async firstSeq(order: 'ASC' | 'DESC'): Promise<string | null> {
    const event = await this.db
      .repository(DomainEvent)
      .findOne({ select: { id: true, seq: true }, where: { seq: Not(IsNull()) }, order: { seq: order } });
    return event?.seq?.toString() ?? null;
  }

  private stop(): void {
    this.reader?.stop();
    this.reader = undefined;
  }
}

/** Reads on from one place for as long as somebody listens. */
class Reader {
  readonly started: Promise<void>;
  reading: Promise<void> | undefined;
  failing = false;
  unsubscribe: () => void = () => undefined;
  place: string | undefined;
  private again = false;
  private stopped = false;
  private begin: () => void = () => undefined;
  private readonly timer = setInterval(() => this.wake(), POLL_MS);

  constructor(
    private readonly feed: EventFeed,
    private readonly listeners: ReadonlySet<Listener>,
    private readonly logger: Logger,
  ) {
    this.timer.unref();
    this.started = new Promise((resolve) => (this.begin = resolve));
  }

  wake(): void {
    if (this.stopped) return;
    if (this.reading) {
      this.again = true;
      return;
    }
    this.reading = runDetached(() => this.read())
      .then(
        () => (this.failing = false),
        (error: unknown) => {
          this.failing = true;
          this.logger.warn({ err: String(error) }, 'The event feed failed and will try again');
        },
      )
      .then(() => {
        this.reading = undefined;
        if (!this.again) return;
        this.again = false;
        this.wake();
      });
  }

  stop(): void {
    this.stopped = true;
    clearInterval(this.timer);
    this.unsubscribe();
    // Who waits for a start that never comes would wait for ever.
    this.begin();
  }

  private async read(): Promise<void> {
    if (this.place === undefined) {
      this.place = await this.feed.newestSeq();
      this.begin();
    }
    while (!this.stopped) {
      const events = await this.feed.since(this.place, BATCH);
      for (const event of events) {
        this.place = event.seq;
        for (const listener of this.listeners) this.tell(listener, event);
      }
      if (events.length < BATCH) return;
    }
  }

  private tell(listener: Listener, event: StoredEvent): void {
    try {
      listener(event);
    } catch (error) {
      this.logger.error({ event: event.type, err: String(error) }, 'A listener of the event feed failed');
    }
  }
}
