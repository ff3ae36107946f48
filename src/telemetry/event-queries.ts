import { Injectable } from '@nestjs/common';
import type { Actor } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { type Page, paginationOf, type PaginationDto, publicId, resolvePage } from '../platform/http/index.js';
import type { BatchDto, EventDto, EventPageDto, ListEventsDto } from './telemetry.dto.js';
import { parseTimestamp } from './timestamp.js';

/** Pages of event lists (contract C-42). */
const SIZES = { default: 100, max: 1000 };
/**
 * Totals are exact up to here and a lower bound beyond, so that a list costs the same however much is stored: what is counted is
 * seldom in memory, unlike the newest events.
 */
const EXACT_TOTAL = 1000;

interface EventRow {
  event_id: string;
  event_type: string;
  source: string;
  ts: Date;
  received_at: Date;
  data: Record<string, unknown>;
  metadata: Record<string, unknown> | null;
}

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
  constructor(private readonly db: Database) {}

  /** Newest first (row TEL-02). */
  async list(actor: Actor, query: ListEventsDto): Promise<EventPageDto> {
    const page = resolvePage(query, SIZES);
    const filter = filterOf(actor, query);
    const [rows, count] = await Promise.all([this.page(filter, page), this.count(filter)]);
    const hasMore = rows.length > page.limit;
    const events = rows.slice(0, page.limit);
    const last = events.at(-1);
    const pagination: PaginationDto = paginationOf(page, {
      total: Math.min(count, EXACT_TOTAL),
      exact: count <= EXACT_TOTAL,
      hasMore,
      nextKeys: last && [last.ts.toISOString(), last.event_id],
    });
    return { events: events.map(toEventDto), pagination };
  }

  /** @throws AppError `not_found` */
  async get(actor: Actor, id: string): Promise<EventDto> {
    const own = ownSource(actor);
    const rows = await this.db.query<EventRow>(
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

  private page({ where, params }: Filter, { limit, offset, after }: Page): Promise<EventRow[]> {
    const conditions = [...where];
    const values = [...params];
    if (after) {
      const [ts, id] = after;
      if (Number.isNaN(parseTimestamp(ts)) || typeof id !== 'string' || !/^[0-9a-f-]{36}$/.test(id)) {
        throw queryIssue('cursor', 'is not a cursor of this list');
      }
      values.push(ts, id);
      const at = values.length;
      // The first half is what an index on the time can use.
      conditions.push(`ts <= $${at - 1} AND (ts, event_id) < ($${at - 1}, $${at}::uuid)`);
    }
    values.push(limit + 1, offset);
    return this.db.query<EventRow>(
      `SELECT ${COLUMNS} FROM telemetry_events ${whereOf(conditions)}
       ORDER BY ts DESC, event_id DESC LIMIT $${values.length - 1} OFFSET $${values.length}`,
      values,
    );
  }

  private async count({ where, params }: Filter): Promise<number> {
    const [{ count }] = await this.db.query<{ count: number }>(
      `SELECT count(*)::int AS count
       FROM (SELECT 1 FROM telemetry_events ${whereOf(where)} LIMIT ${EXACT_TOTAL + 1}) AS matching`,
      params,
    );
    return count;
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

interface Filter {
  where: string[];
  params: unknown[];
}

function filterOf(actor: Actor, query: ListEventsDto): Filter {
  const where: string[] = [];
  const params: unknown[] = [];
  const add = (value: unknown, condition: (param: string) => string): void => {
    if (value === undefined || value === null) return;
    params.push(value);
    where.push(condition(`$${params.length}`));
  };
  const { from, to } = rangeOf(query);
  add(query.source, (p) => `source = ${p}`);
  add(ownSource(actor), (p) => `source = ${p}`);
  add(query.event_type, (p) => `event_type = ${p}`);
  add(from === undefined ? from : new Date(from).toISOString(), (p) => `ts >= ${p}`);
  add(to === undefined ? to : new Date(to).toISOString(), (p) => `ts <= ${p}`);
  add(query.metric_name, (p) => `data->>'metric_name' = ${p}`);
  add(query.tags && JSON.stringify(query.tags), (p) => `data->'tags' @> ${p}::jsonb`);
  return { where, params };
}

function whereOf(conditions: string[]): string {
  return conditions.length > 0 ? `WHERE ${conditions.join(' AND ')}` : '';
}

function toEventDto(row: EventRow): EventDto {
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
