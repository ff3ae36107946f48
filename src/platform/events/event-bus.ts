import { Injectable } from '@nestjs/common';
import { currentContext, type RequestContext } from '../context/index.js';
import { Database, type Tx } from '../database/index.js';
import type { EmittedEvent, EventDefinition, StoredEvent } from './event-definition.js';
import { type AskWanted, EventJobs, type HandleInRelay } from './event-jobs.js';
import { EventRelay } from './event-relay.js';
import { insertEmitted, insertEvents } from './outbox.queries.js';

/** Writes events into the outbox in the transaction of the change they tell of. */
@Injectable()
export class EventBus {
  constructor(
    private readonly db: Database,
    private readonly relay: EventRelay,
    private readonly eventJobs: EventJobs,
  ) {}

  /** The event is sent when, and only when, `tx` commits. `subject` is the public id of the resource it is about. */
  async publish<Payload extends object>(
    tx: Tx,
    event: EventDefinition<Payload>,
    subject: string,
    data: Payload,
  ): Promise<void> {
    await this.publishMany(tx, [{ event, subject, data }]);
  }

  async publishMany(
    tx: Tx,
    events: { event: EventDefinition<object>; subject: string; data: object }[],
  ): Promise<void> {
    if (events.length === 0) return;
    const context = currentContext();
    // The first thing a request tells of is what it acted on.
    if (context) context.resourceId ??= events[0].subject;
    await insertEvents(tx, events, originOf(context));
    this.db.afterCommit(tx, () => this.relay.wake());
  }

  /** Writes down an event that a caller emits, sent as {@link publish} sends the server's own. */
  async emit(tx: Tx, event: EmittedEvent): Promise<StoredEvent> {
    const emitted = await insertEmitted(tx, event, originOf(currentContext()));
    this.db.afterCommit(tx, () => this.relay.wake());
    return emitted;
  }

  /** Spares a subscriber of every kind (`handler`) the events that nobody wants; see {@link EventJobs.narrow}. */
  narrow(handler: string, wanted: AskWanted): void {
    this.eventJobs.narrow(handler, wanted);
  }

  /** Lets a subscriber that takes many (`handler`) handle events in the relay's transaction; see {@link EventJobs.handleInRelay}. */
  handleInRelay(handler: string, handle: HandleInRelay): void {
    this.eventJobs.handleInRelay(handler, handle);
  }
}

function originOf(context: RequestContext | undefined): { actorId: string; requestId: string | null } {
  return { actorId: context?.actor?.id ?? 'system', requestId: context?.requestId ?? null };
}
