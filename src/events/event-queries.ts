import { Injectable } from '@nestjs/common';
import { type Actor, actorHas } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { EVENT_COLUMNS, type EventRow, SERVER_SOURCE } from '../platform/events/index.js';
import {
  notACursor,
  type Page,
  type PaginationDto,
  paginationOf,
  publicId,
  shownOf,
  type SizedRow,
  withinPageBytes,
} from '../platform/http/index.js';
import { EventDeliveries } from '../webhooks/index.js';
import { conditionsFor, type EventCriteria } from './event-conditions.js';
import type { EventDetailDto, EventDto, EventStatus } from './events.dto.js';

/** Matches are counted, and items skipped, up to here; a cursor goes on without end. */
const COUNTED = 10_000;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const MICROSECONDS = /^\d{1,16}$/;

type Row = EventRow & { relayed: boolean; expired: boolean; micros: string };

const COLUMNS = `${EVENT_COLUMNS.join()}, relayed_at IS NOT NULL AS relayed,
  coalesce(expires_at <= now(), false) AS expired, (extract(epoch FROM occurred_at) * 1000000)::bigint AS micros`;

/** Looks events up. What the actor may not read is left out by the query itself (rule 12). */
@Injectable()
export class EventQueries {
  constructor(
    private readonly db: Database,
    private readonly deliveries: EventDeliveries,
  ) {}

  /** @throws AppError `not_found`, also for an event that the actor may not read; `gone` when it has expired */
  async get(actor: Actor, id: string): Promise<EventDetailDto> {
    const { where, params } = conditionsFor(actor, { id, status: 'any' });
    const [row] = await this.db.query<Row>(`SELECT ${COLUMNS} FROM events WHERE ${where}`, params);
    if (!row) throw AppError.notFound('event', publicId('evt', id));
    const event = toEventDto(row);
    if (row.expired) {
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
    if (page.offset > COUNTED) {
      throw AppError.validation({
        field: 'page',
        issue: `at most ${COUNTED} events can be skipped; go on with next_cursor`,
        expected: `at most ${COUNTED} events to skip`,
        location: 'query',
      });
    }
    const { where, params } = conditionsFor(actor, criteria);
    const [{ total }] = await this.db.query<{ total: number }>(
      `SELECT count(*)::int AS total FROM (SELECT 1 FROM events WHERE ${where} LIMIT ${COUNTED + 1}) AS matching`,
      params,
    );
    const [comparison, order] = oldestFirst ? ['>', 'ASC'] : ['<', 'DESC'];
    const [at, id] = [`$${params.length + 1}`, `$${params.length + 2}`];
    const seek = page.after
      ? `AND (occurred_at, id) ${comparison} ('epoch'::timestamptz + ${at}::float8 * interval '1 microsecond', ${id}::uuid)`
      : '';
    const sorted = `occurred_at ${order}, id ${order}`;
    const found = await this.db.query<Row & SizedRow>(
      withinPageBytes(
        `SELECT ${COLUMNS} FROM events WHERE ${where} ${seek}
         ORDER BY ${sorted} LIMIT ${page.limit + 1} OFFSET ${page.offset}`,
        ['data', 'metadata'],
        sorted,
      ),
      [...params, ...(page.after ? keysOf(page.after) : [])],
    );
    const { shown, hasMore } = shownOf(found, page.limit);
    const last = shown.at(-1);
    return {
      events: shown.map(toEventDto),
      pagination: paginationOf(page, {
        total: Math.min(total, COUNTED),
        exact: total <= COUNTED,
        hasMore,
        nextKeys: last && [last.micros, last.id],
      }),
    };
  }
}

function keysOf([micros, id]: unknown[]): unknown[] {
  if (typeof micros === 'string' && MICROSECONDS.test(micros) && typeof id === 'string' && UUID.test(id)) {
    return [micros, id];
  }
  throw notACursor();
}

function toEventDto(row: Row): EventDto {
  const { type, source, priority, data, metadata, subject, actor_id } = row;
  return {
    event_id: publicId('evt', row.id),
    type,
    event_type: type,
    timestamp: row.occurred_at.toISOString(),
    status: statusOf(row),
    source: source ?? SERVER_SOURCE,
    priority,
    correlation_id: row.correlation_id,
    expires_at: row.expires_at?.toISOString() ?? null,
    data,
    metadata,
    subject,
    actor_id,
  };
}

function statusOf({ relayed, expired }: Row): EventStatus {
  if (expired) return 'expired';
  return relayed ? 'published' : 'pending';
}
