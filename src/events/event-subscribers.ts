import { Injectable } from '@nestjs/common';
import { Database } from '../platform/database/index.js';
import { EventCatalogue, filterFields, filterOf, type StoredEvent } from '../platform/events/index.js';
import { EventDeliveries } from '../webhooks/index.js';
import { streamsWanting } from './events.queries.js';

/** Who wants an event at the moment. */
@Injectable()
export class EventSubscribers {
  constructor(
    private readonly db: Database,
    private readonly deliveries: EventDeliveries,
    private readonly catalogue: EventCatalogue,
  ) {}

  /** Webhooks, those of subscriptions among them, and saved streams. */
  async count(event: StoredEvent): Promise<number> {
    const streams = await streamsWanting(
      this.db.manager,
      patternsFor(event.type),
      this.catalogue.accessTo(event.type).scope,
    );
    const fields = filterFields(event);
    const wanting = streams.filter(({ filters }) => filterOf(filters)?.({ fields }) ?? true);
    return wanting.length + (await this.deliveries.countWanting(event));
  }
}

/** All patterns that stand for a name: `*`, `a.b.c`, `a.*`, `a.b.*`, `*.c`, `*.b.c`, `*.b.*`. */
function patternsFor(type: string): string[] {
  const words = type.split('.');
  const patterns = ['*', type];
  for (let from = 0; from < words.length; from++) {
    for (let to = from + 1; to <= words.length; to++) {
      const [before, behind] = [from > 0 ? '*.' : '', to < words.length ? '.*' : ''];
      patterns.push(`${before}${words.slice(from, to).join('.')}${behind}`);
    }
  }
  return [...new Set(patterns)];
}
