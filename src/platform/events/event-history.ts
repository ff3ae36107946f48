import { Injectable } from '@nestjs/common';
import { Database, type Tx } from '../database/index.js';
import type { StoredEvent } from './event-definition.js';
import { type HistoryFilter, type HistoryPlace, pageOfEvents, pageOfPlaces, removeEvents } from './outbox.queries.js';

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
    const rows = await pageOfEvents(this.db.manager, filter, after, limit);
    const items = rows.filter(({ matches }) => matches).map(({ event, at, id }) => ({ event, place: { at, id } }));
    return { items, next: nextOf(rows, limit) };
  }

  /**
   * Deletes events (UUIDs) that were relayed. Who resumes a stream from before them is told of the gap: see `EventFeed.removedUpTo`.
   * @returns how many there were
   */
  remove(tx: Tx, ids: readonly string[]): Promise<number> {
    return removeEvents(tx, ids);
  }

  /** {@link page} without the events' content. */
  async places(filter: HistoryFilter, after: HistoryPlace | null, limit: number): Promise<Page<HistoryPlace>> {
    const rows = await pageOfPlaces(this.db.manager, filter, after, limit);
    const items = rows.filter(({ matches }) => matches).map(({ at, id }) => ({ at, id }));
    return { items, next: nextOf(rows, limit) };
  }
}

function nextOf(rows: readonly HistoryPlace[], limit: number): HistoryPlace | null {
  const last = rows.at(-1);
  return last && rows.length === limit ? { at: last.at, id: last.id } : null;
}
