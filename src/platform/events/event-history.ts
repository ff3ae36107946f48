import { Injectable } from '@nestjs/common';
import { Database, type Tx } from '../database/index.js';
import type { StoredEvent } from './event-definition.js';
import { EVENT_COLUMNS, type EventRow, toStoredEvent } from './event-row.js';

/** Which events are meant; what is left out does not matter. */
export interface HistoryFilter {
  /** Names, or `orders.*`, `*.created`, `*`; any of them. */
  types?: readonly string[];
  /** ISO 8601, inclusive. */
  from?: string;
  /** ISO 8601, exclusive. */
  to?: string;
  /** Null: the server itself. */
  source?: string | null;
  correlationId?: string;
  /** UUIDs. */
  ids?: readonly string[];
  expired?: boolean;
}

/** Place of the last event looked at, in the order of time. */
export interface HistoryPlace {
  /** With microseconds. */
  at: string;
  id: string;
}

interface Page<Item> {
  items: Item[];
  /** Null: there is no more. */
  next: HistoryPlace | null;
}

/**
 * Reads what has happened from the outbox, from the oldest to the newest. However few events are meant, one page looks at no more than `limit`: no
 * statement takes long. What was not relayed yet has not happened.
 */
@Injectable()
export class EventHistory {
  constructor(private readonly db: Database) {}

  /** Events that match, of the next `limit` after `after`. */
  async page(
    filter: HistoryFilter,
    after: HistoryPlace | null,
    limit: number,
  ): Promise<Page<{ event: StoredEvent; place: HistoryPlace }>> {
    const { sql, params } = pageOf(filter, after, limit, EVENT_COLUMNS.map((name) => `e.${name}`).join());
    const rows = await this.db.query<EventRow & HistoryPlace & { matches: boolean }>(sql, params);
    const items = rows
      .filter(({ matches }) => matches)
      .map(({ at, matches: _matches, ...row }) => ({
        event: toStoredEvent(row as unknown as EventRow),
        place: { at, id: row.id },
      }));
    return { items, next: nextOf(rows, limit) };
  }

  /**
   * Deletes events (UUIDs) that were relayed. Who resumes a stream from before them is told of the gap: see `EventFeed.removedUpTo`.
   * @returns how many there were
   */
  async remove(tx: Tx, ids: readonly string[]): Promise<number> {
    const [{ count }] = await tx.query<{ count: number }[]>(
      `WITH removed AS (DELETE FROM events WHERE id = ANY ($1::uuid[]) AND relayed_at IS NOT NULL RETURNING seq),
       noted AS (UPDATE events_removed SET up_to = greatest(up_to, (SELECT max(seq) FROM removed)))
       SELECT count(*)::int AS count FROM removed`,
      [ids],
    );
    return count;
  }

  /** {@link page} without the events' content. */
  async places(filter: HistoryFilter, after: HistoryPlace | null, limit: number): Promise<Page<HistoryPlace>> {
    const { sql, params } = pageOf(filter, after, limit, 'e.id');
    const rows = await this.db.query<HistoryPlace & { matches: boolean }>(sql, params);
    const items = rows.filter(({ matches }) => matches).map(({ at, id }) => ({ at, id }));
    return { items, next: nextOf(rows, limit) };
  }
}

function nextOf(rows: readonly HistoryPlace[], limit: number): HistoryPlace | null {
  const last = rows.at(-1);
  return last && rows.length === limit ? { at: last.at, id: last.id } : null;
}

function pageOf(
  filter: HistoryFilter,
  after: HistoryPlace | null,
  limit: number,
  columns: string,
): { sql: string; params: unknown[] } {
  const params: unknown[] = [];
  const add = (clauses: string[], clause: string, ...values: unknown[]): void => {
    let text = clause;
    for (const value of values) text = text.replace('?', `$${params.push(value)}`);
    clauses.push(text);
  };
  // What an index finds narrows the page; all else is asked of the page alone.
  const inner = ['relayed_at IS NOT NULL'];
  if (filter.from) add(inner, 'occurred_at >= ?', filter.from);
  if (filter.to) add(inner, 'occurred_at < ?', filter.to);
  if (filter.ids) add(inner, 'id = ANY (?::uuid[])', filter.ids);
  if (filter.correlationId !== undefined) add(inner, 'correlation_id = ?', filter.correlationId);
  if (after) add(inner, '(occurred_at, id) > (?::timestamptz, ?::uuid)', after.at, after.id);
  const outer = ['true'];
  if (filter.types) add(outer, 'e.type LIKE ANY (?::text[])', filter.types.map(likeOf));
  if (filter.source === null) outer.push('e.source IS NULL');
  else if (filter.source !== undefined) add(outer, 'e.source = ?', filter.source);
  if (filter.expired !== undefined) {
    outer.push(`coalesce(e.expires_at <= now(), false) = ${filter.expired}`);
  }
  const sql = `SELECT ${columns}, e.occurred_at::text AS at, ${outer.join(' AND ')} AS matches
    FROM (SELECT * FROM events WHERE ${inner.join(' AND ')} ORDER BY occurred_at, id LIMIT ${limit}) AS e
    ORDER BY e.occurred_at, e.id`;
  return { sql, params };
}

/** A `*` stands for one or more words. */
function likeOf(pattern: string): string {
  return pattern
    .replace(/[\\%_]/g, '\\$&')
    .split('*')
    .join('_%');
}
