import { Injectable } from '@nestjs/common';
import type { Actor } from '../platform/context/index.js';
import { TelemetrySettings } from './telemetry.settings.js';
import { Database } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import {
  notACursor,
  type Page,
  PAGE_BYTES,
  paginationOf,
  type PaginationDto,
  publicId,
  resolvePage,
  type SizedRow,
  withinPageBytes,
} from '../platform/http/index.js';
import { readNewestFirst, type Stretch } from './newest-first.js';
import type { BatchDto, TelemetryEventDto, TelemetryEventListDto, ListEventsDto } from './telemetry.dto.js';
import { parseTimestamp } from './timestamp.js';

/** Pages of event lists (contract C-42). */
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

interface StoredEvent {
  event_id: string;
  event_type: string;
  source: string;
  ts: Date;
  received_at: Date;
  data: Record<string, unknown>;
  metadata: Record<string, unknown> | null;
}

type EventRow = StoredEvent & SizedRow;

interface BatchRow {
  id: string;
  created_at: Date;
  accepted_count: number;
  duplicate_count: number;
  rejected_count: number;
  errors: BatchDto['errors'];
}

const COLUMNS = 'event_id, event_type, source, ts, received_at, data, metadata';

/** Reads single events and batches. An agent sees only what it wrote (contract 3.2). */
@Injectable()
export class EventQueries {
  constructor(
    private readonly db: Database,
    private readonly settings: TelemetrySettings,
  ) {}

  /**
   * Newest first (row TEL-02). What no index finds is looked for as long as that takes at most: a page may then hold fewer events
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
    const rows = await this.db.query<StoredEvent>(
      `SELECT ${COLUMNS} FROM telemetry_events WHERE event_id = $1 AND ($2::text IS NULL OR source = $2)
       ORDER BY ts DESC LIMIT 1`,
      [id, own],
    );
    if (rows.length === 0) throw AppError.notFound('Telemetry event', id);
    return toEventDto(rows[0]);
  }

  /** @throws AppError `not_found` */
  async getBatch(actor: Actor, id: string): Promise<BatchDto> {
    const own = ownSource(actor) === null ? null : actor.id;
    const rows = await this.db.query<BatchRow>(
      `SELECT * FROM telemetry_batches WHERE id = $1 AND ($2::text IS NULL OR actor_id = $2)`,
      [id, own],
    );
    if (rows.length === 0) throw AppError.notFound('Telemetry batch', publicId('batch', id));
    const [row] = rows;
    return {
      batch_id: publicId('batch', row.id),
      status: 'completed',
      accepted_count: row.accepted_count,
      rejected_count: row.rejected_count,
      duplicate_count: row.duplicate_count,
      errors: row.errors,
      created_at: row.created_at.toISOString(),
    };
  }

  /** One event more than a page holds, when there is one and the bytes of a page allow it. */
  private async page(filter: Filter, page: Page): Promise<Found> {
    const { limit, offset, after } = page;
    const at = after && placeOf(after);
    const wanted = at
      ? // The first half is what an index on the time can use.
        and(filter, (p) => `ts <= ${p(at.ts)} AND (ts, event_id) < (${p(at.ts)}, ${p(at.id)}::uuid)`)
      : filter;
    if (filter.isIndexed || offset > 0) {
      return { ...(await this.read(wanted, limit + 1, offset)), unreadUntil: null };
    }
    const rows: EventRow[] = [];
    let isCut = false;
    let bytes = PAGE_BYTES;
    const newest = Math.min(at ? Date.parse(at.ts) : Infinity, this.newest(filter));
    const unreadUntil = await readNewestFirst({ since: filter.since, until: newest }, SEARCH_MS, async (stretch) => {
      const found = await this.read(within(wanted, stretch), limit + 1 - rows.length, 0, bytes);
      rows.push(...found.rows);
      bytes -= found.rows.at(-1)?.bytes_until ?? 0;
      isCut = found.isCut || bytes <= 0;
      return rows.length <= limit && !isCut;
    });
    return { rows, isCut, unreadUntil };
  }

  private async read({ where, params }: Filter, limit: number, offset: number, bytes?: number): Promise<Read> {
    const order = 'ts DESC, event_id DESC';
    const query = `SELECT ${COLUMNS} FROM telemetry_events ${whereOf(where)}
       ORDER BY ${order} LIMIT $${params.length + 1} OFFSET $${params.length + 2}`;
    const sql = withinPageBytes(query, ['data', 'metadata'], order, bytes);
    const rows = await this.db.query<EventRow>(sql, [...params, limit, offset]);
    return { rows, isCut: (rows.at(0)?.found_rows ?? 0) > rows.length };
  }

  /** Up to {@link EXACT_TOTAL} and as far as the time for it goes. */
  private async count(filter: Filter): Promise<Counted> {
    let total = 0;
    const add = async ({ where, params }: Filter): Promise<boolean> => {
      const [{ count }] = await this.db.query<{ count: number }>(
        `SELECT count(*)::int AS count
         FROM (SELECT 1 FROM telemetry_events ${whereOf(where)} LIMIT ${EXACT_TOTAL + 1 - total}) AS matching`,
        params,
      );
      total += count;
      return total <= EXACT_TOTAL;
    };
    if (filter.isIndexed) await add(filter);
    else {
      const whole = { since: filter.since, until: this.newest(filter) };
      const unread = await readNewestFirst(whole, COUNT_MS, (stretch) => add(within(filter, stretch)));
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
  rows: EventRow[];
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

interface Filter {
  where: string[];
  params: unknown[];
  /** The time that is asked for, as a stretch. */
  since: number;
  until: number;
  /** Whether an index leads to what is asked for, so that few matches cost little. */
  isIndexed: boolean;
}

function filterOf(actor: Actor, query: ListEventsDto): Filter {
  const { from, to } = rangeOf(query);
  const own = ownSource(actor);
  const { source, event_type: type, metric_name: metric, tags } = query;
  let filter: Filter = {
    where: [],
    params: [],
    since: from === undefined ? -1 : from - 1,
    until: to ?? Infinity,
    isIndexed: metric === undefined && tags === undefined && (type === undefined || (own ?? source) === undefined),
  };
  const add = (value: unknown, condition: (param: string) => string): void => {
    if (value !== undefined && value !== null) filter = and(filter, (p) => condition(p(value)));
  };
  add(source, (p) => `source = ${p}`);
  add(own, (p) => `source = ${p}`);
  add(type, (p) => `event_type = ${p}`);
  add(from === undefined ? from : new Date(from).toISOString(), (p) => `ts >= ${p}`);
  add(to === undefined ? to : new Date(to).toISOString(), (p) => `ts <= ${p}`);
  add(metric, (p) => `data->>'metric_name' = ${p}`);
  add(tags && JSON.stringify(tags), (p) => `data->'tags' @> ${p}::jsonb`);
  return filter;
}

/** `condition` gets what gives a value its place among the parameters. */
function and(filter: Filter, condition: (param: (value: unknown) => string) => string): Filter {
  const params = [...filter.params];
  const text = condition((value) => `$${params.push(value)}`);
  return { ...filter, where: [...filter.where, text], params };
}

function within(filter: Filter, { since, until }: Stretch): Filter {
  const [after, to] = [since, until].map((ms) => new Date(ms).toISOString());
  return and(filter, (p) => `ts > ${p(after)} AND ts <= ${p(to)}`);
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** @throws AppError `validation` when the cursor is of another list */
function placeOf([ts, id]: unknown[]): { ts: string; id: string } {
  if (typeof ts === 'string' && !Number.isNaN(parseTimestamp(ts)) && typeof id === 'string' && UUID.test(id)) {
    return { ts, id };
  }
  throw notACursor();
}

function keysOf(last: EventRow | undefined): unknown[] | undefined {
  return last && [last.ts.toISOString(), last.event_id];
}

/** What a page by offset shows is counted too: its end, when it has one, is the total. */
function totalOf(counted: Counted, { offset, after }: Page, shown: number, hasMore: boolean): Counted {
  if (counted.exact || after || shown === 0) return counted;
  return hasMore
    ? { total: Math.max(counted.total, offset + shown + 1), exact: false }
    : { total: offset + shown, exact: true };
}

function whereOf(conditions: string[]): string {
  return conditions.length > 0 ? `WHERE ${conditions.join(' AND ')}` : '';
}

function toEventDto(row: StoredEvent): TelemetryEventDto {
  return {
    event_id: row.event_id,
    event_type: row.event_type,
    source: row.source,
    timestamp: row.ts.toISOString(),
    received_at: row.received_at.toISOString(),
    data: row.data,
    metadata: row.metadata,
  };
}
