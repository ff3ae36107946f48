import { Injectable } from '@nestjs/common';
import { type Actor, actorHas } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { EventCatalogue, SERVER_SOURCE } from '../platform/events/index.js';
import { notACursor, type Page, type PaginationDto, paginationOf, shownOf } from '../platform/http/index.js';
import { publicId } from '../platform/ids/index.js';
import { EventDeliveries } from '../webhooks/index.js';
import {
  countEvents,
  type EventCriteria,
  type EventReader,
  findEvent,
  type FoundEvent,
  listEvents,
} from './events.queries.js';
import type { EventDetailDto, EventDto, EventStatus } from './events.dto.js';

/** Matches are counted, and items skipped, up to here; a cursor goes on without end. */
const MAX_COUNTED = 10_000;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const MICROSECONDS = /^\d{1,16}$/;

/** Looks events up. What the actor may not read is left out by the query itself. */
@Injectable()
export class EventQueries {
  constructor(
    private readonly db: Database,
    private readonly deliveries: EventDeliveries,
    private readonly catalogue: EventCatalogue,
  ) {}

  /** @throws AppError `not_found`, also for an event that the actor may not read; `gone` when it has expired */
  async get(actor: Actor, id: string): Promise<EventDetailDto> {
    const found = await findEvent(this.db.manager, this.readerOf(actor), id);
    if (!found) throw AppError.notFound('event', publicId('evt', id));
    const event = toEventDto(found);
    if (found.expired) {
      const { event_id, expires_at } = event;
      throw new AppError('gone', 'The event has expired', { details: { event_id, expires_at } });
    }
    const counts = await this.deliveries.countOf(id);
    const shown = actorHas(actor, 'webhook:read') ? { deliveries: await this.deliveries.of(id) } : {};
    return { event, delivery_info: { ...counts, ...shown } };
  }

  /** @throws AppError `validation` for a cursor that is none, and for pages too far on to be counted to */
  async list(
    actor: Actor,
    criteria: EventCriteria,
    page: Page,
    oldestFirst: boolean,
  ): Promise<{ events: EventDto[]; pagination: PaginationDto }> {
    if (page.offset > MAX_COUNTED) {
      throw AppError.validation({
        field: 'page',
        issue: `at most ${MAX_COUNTED} events can be skipped; go on with next_cursor`,
        expected: `at most ${MAX_COUNTED} events to skip`,
        location: 'query',
      });
    }
    const total = await countEvents(this.db.manager, this.readerOf(actor), criteria, MAX_COUNTED + 1);
    const found = await listEvents(this.db.manager, this.readerOf(actor), criteria, {
      oldestFirst,
      limit: page.limit + 1,
      offset: page.offset,
      after: page.after && keysOf(page.after),
    });
    const { shown, hasMore } = shownOf(found, page.limit);
    const last = shown.at(-1);
    return {
      events: shown.map(toEventDto),
      pagination: paginationOf(page, {
        total: Math.min(total, MAX_COUNTED),
        exact: total <= MAX_COUNTED,
        hasMore,
        nextKeys: last && [last.micros, last.id],
      }),
    };
  }

  private readerOf(actor: Actor): EventReader {
    return { actor, rules: this.catalogue.readingRules(actor) };
  }
}

function keysOf([micros, id]: unknown[]): [micros: string, id: string] {
  if (typeof micros === 'string' && MICROSECONDS.test(micros) && typeof id === 'string' && UUID.test(id)) {
    return [micros, id];
  }
  throw notACursor();
}

function toEventDto(event: FoundEvent): EventDto {
  const { id, type, source, priority, data, metadata, subject } = event;
  return {
    event_id: publicId('evt', id),
    type,
    event_type: type,
    timestamp: event.occurredAt.toISOString(),
    status: statusOf(event),
    source: source ?? SERVER_SOURCE,
    priority,
    correlation_id: event.correlationId,
    expires_at: event.expiresAt?.toISOString() ?? null,
    data,
    metadata,
    subject,
    actor_id: event.actorId,
  };
}

function statusOf({ relayed, expired }: FoundEvent): EventStatus {
  if (expired) return 'expired';
  return relayed ? 'published' : 'pending';
}
