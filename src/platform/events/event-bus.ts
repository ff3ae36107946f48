import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { currentContext } from '../context/index.js';
import { Database, prepared, type Tx } from '../database/index.js';
import type { EmittedEvent, EventDefinition, StoredEvent } from './event-definition.js';
import { type AskWanted, EventJobs, type HandleInRelay } from './event-jobs.js';
import { EventRelay } from './event-relay.js';
import { EVENT_COLUMNS, type EventRow, toStoredEvent } from './event-row.js';

const INSERT = prepared(
  'events.publish',
  `INSERT INTO events (id, type, subject, data, actor_id, request_id)
   SELECT id, type, subject, data, $5, $6
   FROM unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[]) WITH ORDINALITY AS e (id, type, subject, data, n)
   ORDER BY n`,
);

const EMIT = prepared(
  'events.emit',
  `INSERT INTO events (id, type, data, actor_id, request_id, source, metadata, priority, correlation_id, expires_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING ${EVENT_COLUMNS.join()}`,
);

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
    await tx.query(INSERT, [
      events.map(() => randomUUID()),
      events.map((e) => e.event.type),
      events.map((e) => e.subject),
      events.map((e) => JSON.stringify(e.data)),
      context?.actor?.id ?? 'system',
      context?.requestId ?? null,
    ]);
    this.db.afterCommit(tx, () => this.relay.wake());
  }

  /** Writes down an event that a caller emits, sent as {@link publish} sends the server's own. */
  async emit(tx: Tx, event: EmittedEvent): Promise<StoredEvent> {
    const context = currentContext();
    const { type, data, source, metadata, priority, correlationId, expiresAt } = event;
    const [row] = await tx.query<EventRow[]>(EMIT, [
      randomUUID(),
      type,
      JSON.stringify(data),
      context?.actor?.id ?? 'system',
      context?.requestId ?? null,
      source,
      metadata === null ? null : JSON.stringify(metadata),
      priority,
      correlationId,
      expiresAt,
    ]);
    this.db.afterCommit(tx, () => this.relay.wake());
    return toStoredEvent(row);
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
