import { Injectable } from '@nestjs/common';
import type { Actor } from '../platform/context/index.js';
import { TelemetrySettings } from './telemetry.settings.js';
import { Database } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import {
  countUpTo,
  notACursor,
  type Page,
  PAGE_BYTES,
  paginationOf,
  type PaginationDto,
  resolvePage,
} from '../platform/http/index.js';
import { publicId } from '../platform/ids/index.js';
import { readNewestFirst } from './newest-first.js';
import {
  type EventFilter,
  type EventPart,
  type FoundEvent,
  readEvents,
  selectEvents,
  type StoredEvent,
} from './telemetry.queries.js';
import { TelemetryBatch } from './telemetry-batch.entity.js';
import { TelemetryEvent } from './telemetry-event.entity.js';
import type { BatchDto, TelemetryEventDto, TelemetryEventListDto, ListEventsDto } from './telemetry.dto.js';
import { parseTimestamp } from './timestamp.js';

const SIZES = { default: 100, max: 1000 };
/**
 * Totals are exact up to here and a lower bound beyond, so that a list costs the same however much is stored: what is counted is
 * seldom in memory, unlike the newest events.
 */
const EXACT_TOTAL = 1000;
/** How long one request looks for what no index finds, and how long it counts that. */
const SEARCH_MS = 3000;
const COUNT_MS = 2000;
/** Below every id: a cursor that stands before a time as a whole. */
const NO_ID = '00000000-0000-0000-0000-000000000000';

/** Reads single events and batches. An agent sees only what it wrote. */
@Injectable()
export class EventQueries {
  constructor(
    private readonly db: Database,
    private readonly settings: TelemetrySettings,
  ) {}

  /**
   * Newest first. What no index finds is looked for as long as that takes at most: a page may then hold fewer events
   * than asked for, or none, and its cursor goes on from where the search has ended.
   */
  async list(actor: Actor, query: ListEventsDto): Promise<TelemetryEventListDto> {
    const page = resolvePage(query, SIZES);
    const filter = filterOf(actor, query);
    const [{ rows, isCut, unreadUntil }, counted] = await Promise.all([this.page(filter, page), this.count(filter)]);
    const events = rows.slice(0, page.limit);
    const hasMore = rows.length > page.limit || isCut || unreadUntil !== null;
    const pagination: PaginationDto = paginationOf(page, {
      ...totalOf(counted, page, events.length, hasMore),
      hasMore,
      nextKeys: unreadUntil === null ? keysOf(events.at(-1)) : [new Date(unreadUntil + 1).toISOString(), NO_ID],
    });
    return { events: events.map(toEventDto), pagination };
  }

  /** @throws AppError `not_found` */
  async get(actor: Actor, id: string): Promise<TelemetryEventDto> {
    const own = ownSource(actor);
    const event = await this.db.repository(TelemetryEvent).findOne({
      where: { eventId: id, ...(own === null ? {} : { source: own }) },
      order: { ts: 'DESC' },
    });
    if (!event) throw AppError.notFound('Telemetry event', id);
    return toEventDto(event);
  }

  /** @throws AppError `not_found` */
  async getBatch(actor: Actor, id: string): Promise<BatchDto> {
    const own = ownSource(actor) === null ? {} : { actorId: actor.id };
    const batch = await this.db.repository(TelemetryBatch).findOneBy({ id, ...own });
    if (!batch) throw AppError.notFound('Telemetry batch', publicId('batch', id));
    return {
      batch_id: publicId('batch', batch.id),
      status: 'completed',
      accepted_count: batch.acceptedCount,
      rejected_count: batch.rejectedCount,
      duplicate_count: batch.duplicateCount,
      errors: batch.errors,
      created_at: batch.createdAt.toISOString(),
    };
  }

  /** One event more than a page holds, when there is one and the bytes of a page allow it. */
  private async page(filter: Filter, page: Page): Promise<Found> {
    const { limit, offset, after } = page;
    const at = after && placeOf(after);
    if (filter.isIndexed || offset > 0) {
      return { ...(await this.read(filter, { before: at }, { limit: limit + 1, offset })), unreadUntil: null };
    }
    const rows: FoundEvent[] = [];
    let isCut = false;
    let bytes = PAGE_BYTES;
    const newest = Math.min(at ? Date.parse(at.ts) : Infinity, this.newest(filter));
    const unreadUntil = await readNewestFirst({ since: filter.since, until: newest }, SEARCH_MS, async (stretch) => {
      const size = { limit: limit + 1 - rows.length, offset: 0, bytes };
      const found = await this.read(filter, { before: at, stretch }, size);
      rows.push(...found.rows);
      bytes -= found.rows.at(-1)?.bytes_until ?? 0;
      isCut = found.isCut || bytes <= 0;
      return rows.length <= limit && !isCut;
    });
    return { rows, isCut, unreadUntil };
  }

  private async read(filter: Filter, part: EventPart, size: Parameters<typeof readEvents>[3]): Promise<Read> {
    const rows = await readEvents(this.db.manager, filter, part, size);
    return { rows, isCut: (rows.at(0)?.found_rows ?? 0) > rows.length };
  }

  /** Up to {@link EXACT_TOTAL} and as far as the time for it goes. */
  private async count(filter: Filter): Promise<Counted> {
    let total = 0;
    const add = async (part: EventPart): Promise<boolean> => {
      total += await countUpTo(selectEvents(this.db.manager, filter, part), EXACT_TOTAL + 1 - total);
      return total <= EXACT_TOTAL;
    };
    if (filter.isIndexed) await add({});
    else {
      const whole = { since: filter.since, until: this.newest(filter) };
      const unread = await readNewestFirst(whole, COUNT_MS, (stretch) => add({ stretch }));
      if (unread !== null) return { total, exact: false };
    }
    return { total: Math.min(total, EXACT_TOTAL), exact: total <= EXACT_TOTAL };
  }

  /** Time of the newest event there can be, ms. */
  private newest({ until }: Filter): number {
    return Math.min(until, Date.now() + this.settings.maxFutureSeconds * 1000);
  }
}

/** The only source an agent may read; null for everyone else. */
export function ownSource(actor: Actor): string | null {
  return actor.type === 'agent' ? actor.name : null;
}

/** Latest time of a query; beyond it nothing is stored, and the database's years would soon end. */
const LATEST = Date.UTC(9000, 0, 1);

/** A time range of a query in ms since 1970; an end that is not given is undefined. @throws AppError `validation` */
export function rangeOf(query: { from?: string; to?: string }): { from?: number; to?: number } {
  const [from, to] = (['from', 'to'] as const).map((name) => {
    if (query[name] === undefined) return undefined;
    const ms = parseTimestamp(query[name]);
    if (Number.isNaN(ms)) throw queryIssue(name, 'must be an ISO 8601 date and time with a time zone');
    return Math.min(Math.max(ms, 0), LATEST);
  });
  if (from !== undefined && to !== undefined && from > to) throw queryIssue('from', 'must not be after to');
  return { from, to };
}

export function queryIssue(field: string, issue: string): AppError {
  return AppError.validation({ field, issue, location: 'query' });
}

interface Read {
  rows: FoundEvent[];
  /** More would have gone beyond the bytes of a page. */
  isCut: boolean;
}

interface Found extends Read {
  /** Up to where (ms) nobody has looked yet; null: everywhere that was wanted. */
  unreadUntil: number | null;
}

interface Counted {
  total: number;
  exact: boolean;
}

interface Filter extends EventFilter {
  /** The time that is asked for, as a stretch. */
  since: number;
  until: number;
  /** Whether an index leads to what is asked for, so that few matches cost little. */
  isIndexed: boolean;
}

function filterOf(actor: Actor, query: ListEventsDto): Filter {
  const { from, to } = rangeOf(query);
  const { source, event_type: eventType, metric_name: metric, tags } = query;
  const sources = [source, ownSource(actor)].filter((name) => name !== undefined && name !== null);
  return {
    sources,
    eventType,
    metric,
    tags,
    from,
    to,
    since: from === undefined ? -1 : from - 1,
    until: to ?? Infinity,
    isIndexed: metric === undefined && tags === undefined && (eventType === undefined || sources.length === 0),
  };
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** @throws AppError `validation` when the cursor is of another list */
function placeOf([ts, id]: unknown[]): { ts: string; id: string } {
  if (typeof ts === 'string' && !Number.isNaN(parseTimestamp(ts)) && typeof id === 'string' && UUID.test(id)) {
    return { ts, id };
  }
  throw notACursor();
}

function keysOf(last: StoredEvent | undefined): unknown[] | undefined {
  return last && [last.ts.toISOString(), last.eventId];
}

/** What a page by offset shows is counted too: its end, when it has one, is the total. */
function totalOf(counted: Counted, { offset, after }: Page, shown: number, hasMore: boolean): Counted {
  if (counted.exact || after || shown === 0) return counted;
  return hasMore
    ? { total: Math.max(counted.total, offset + shown + 1), exact: false }
    : { total: offset + shown, exact: true };
}

function toEventDto(event: StoredEvent): TelemetryEventDto {
  return {
    event_id: event.eventId,
    event_type: event.eventType,
    source: event.source,
    timestamp: event.ts.toISOString(),
    received_at: event.receivedAt.toISOString(),
    data: event.data,
    metadata: event.metadata,
  };
}
