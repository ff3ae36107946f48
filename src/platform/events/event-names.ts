import { Injectable } from '@nestjs/common';
import { Database } from '../database/index.js';
import { nearestWord } from '../http/index.js';
import { EventCatalogue } from './event-catalogue.js';
import { matchesEvent } from './event-pattern.js';
import { neverEmitted } from './outbox.queries.js';

/** Which kinds of events there are: those that the server declares, and those of the events that are kept. */
@Injectable()
export class EventNames {
  constructor(
    private readonly db: Database,
    private readonly catalogue: EventCatalogue,
  ) {}

  /** One warning for each name or pattern at `field` that fits no kind of event so far: it may be a slip, or come later. */
  async warningsOf(field: string, patterns: readonly string[]): Promise<{ field: string; message: string }[]> {
    const declared = this.catalogue.events.map(({ type }) => type);
    const undeclared = patterns.filter((pattern) => !declared.some((type) => matchesEvent(pattern, type)));
    if (undeclared.length === 0) return [];
    const unheard = new Set(await neverEmitted(this.db.manager, undeclared));
    return patterns.flatMap((pattern, n) => {
      if (!unheard.has(pattern)) return [];
      const meant = nearestWord(pattern, declared);
      const hint = meant === undefined ? '' : `; did you mean ${meant}?`;
      return [{ field: `${field}.${n}`, message: `no event ${pattern} is declared or was emitted so far${hint}` }];
    });
  }
}
