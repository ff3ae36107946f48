import { Injectable } from '@nestjs/common';
import type { Actor } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { EventCatalogue, OutboxStatus } from '../platform/events/index.js';
import type { EventHealthDto, EventStatsDto, EventStatsQueryDto, Grouping } from './event-stats.dto.js';
import {
  countBySets,
  countBySteps,
  type CountedEvents,
  type EventCriteria,
  type EventReader,
} from './events.queries.js';

const DAY_MS = 86_400_000;
const MAX_DAYS = 31;
/** Longer ranges are shown by the day. */
const DAYS_BY_HOUR = 7;
const MAX_KINDS = 100;
const MAX_GROUPS = 10;
const DEGRADED_MS = 5_000;
const UNHEALTHY_MS = 30_000;
const FRESH_FAILURE_MS = 15 * 60_000;

interface Range {
  from: Date;
  to: Date;
}

/** Counts of events, of those that the actor may read. */
@Injectable()
export class EventStats {
  constructor(
    private readonly db: Database,
    private readonly outbox: OutboxStatus,
    private readonly catalogue: EventCatalogue,
  ) {}

  /** @throws AppError `validation` for a range that is empty or longer than 31 days */
  async count(actor: Actor, query: EventStatsQueryDto): Promise<EventStatsDto> {
    const range = rangeOf(query);
    const criteria: EventCriteria = { ...range, status: 'any' };
    const unit = unitOf(query.group_by, range);
    const rows = await countBySets(this.db.manager, this.readerOf(actor), criteria, { unit, limit: MAX_KINDS });
    const of = (by: CountedEvents['by']): CountedEvents[] => rows.filter((row) => row.by === by);
    const groups = await this.groups(actor, criteria, unit, query.group_by, rows);
    const keyed = of('step').map(({ step, count }) => ({ timestamp: (step as Date).toISOString(), count }));
    return {
      summary: summaryOf(range, rows),
      by_event_type: of('type').map(({ key, count }) => ({ event_type: key as string, count })),
      by_source: of('source').map(({ key, count }) => ({ source: key as string, count })),
      by_priority: of('priority').map(({ key, count }) => ({ priority: key as string, count })),
      timeline: keyed.map((step) => (groups ? { ...step, groups: groups.get(step.timestamp) ?? {} } : step)),
    };
  }

  /** How the way of events to their subscribers fares. */
  async health(): Promise<EventHealthDto> {
    const { relay, failures, queues } = await this.outbox.read();
    const now = Date.now();
    const fresh = failures.some(({ lastFailedAt }) => now - lastFailedAt.getTime() < FRESH_FAILURE_MS);
    const late = relay.lagMs >= DEGRADED_MS || fresh || queues === null;
    return {
      status: relay.lagMs >= UNHEALTHY_MS ? 'unhealthy' : late ? 'degraded' : 'healthy',
      relay: { unrelayed: relay.unrelayed, unrelayed_is_exact: relay.exact, lag_ms: relay.lagMs },
      handlers: {
        failed: failures.reduce((sum, { failed }) => sum + failed, 0),
        by_handler: failures.map(({ handler, failed: count, lastFailedAt }) => ({
          handler,
          failed: count,
          last_failed_at: lastFailedAt.toISOString(),
        })),
      },
      queue: {
        depth: queues && queues.reduce((sum, { waiting, active, delayed }) => sum + waiting + active + delayed, 0),
        queues: queues ?? [],
      },
      checked_at: new Date(now).toISOString(),
    };
  }

  /** By step, how often each of the most frequent keys; null when nothing is broken down. */
  private async groups(
    actor: Actor,
    criteria: EventCriteria,
    unit: 'hour' | 'day',
    by: Grouping | undefined,
    rows: readonly CountedEvents[],
  ): Promise<Map<string, Record<string, number>> | null> {
    if (by !== 'type' && by !== 'source' && by !== 'priority') return null;
    const keys = rows
      .filter((row) => row.by === by)
      .map(({ key }) => key)
      .slice(0, MAX_GROUPS);
    const found = await countBySteps(this.db.manager, this.readerOf(actor), criteria, { unit, by, keys });
    const groups = new Map<string, Record<string, number>>();
    for (const { step, key, count } of found) {
      const at = step.toISOString();
      groups.set(at, { ...groups.get(at), [key]: count });
    }
    return groups;
  }

  private readerOf(actor: Actor): EventReader {
    return { actor, rules: this.catalogue.readingRules(actor) };
  }
}

function summaryOf({ from, to }: Range, rows: readonly CountedEvents[]): EventStatsDto['summary'] {
  const kinds = (by: CountedEvents['by']): number => Number(rows.find((row) => row.by === by)?.kinds ?? 0);
  const all = rows.find(({ by }) => by === null);
  const { count = 0, pending = 0, expired = 0 } = all ?? {};
  const minutes = (to.getTime() - from.getTime()) / 60_000;
  return {
    total_events: count,
    pending,
    published: count - pending - expired,
    expired,
    event_types: kinds('type'),
    sources: kinds('source'),
    events_per_minute: Math.round((count / minutes) * 100) / 100,
    start_time: from.toISOString(),
    end_time: to.toISOString(),
  };
}

function rangeOf({ start_time, end_time }: EventStatsQueryDto): Range {
  const to = end_time === undefined ? new Date() : new Date(end_time);
  const from = start_time === undefined ? new Date(to.getTime() - DAY_MS) : new Date(start_time);
  if (from >= to) throw rangeIssue('must be before end_time');
  if (to.getTime() - from.getTime() > MAX_DAYS * DAY_MS) throw rangeIssue(`at most ${MAX_DAYS} days before end_time`);
  return { from, to };
}

function unitOf(by: Grouping | undefined, { from, to }: Range): 'hour' | 'day' {
  if (by === 'hour' || by === 'day') return by;
  return to.getTime() - from.getTime() <= DAYS_BY_HOUR * DAY_MS ? 'hour' : 'day';
}

function rangeIssue(issue: string): AppError {
  return AppError.validation({ field: 'start_time', issue, location: 'query' });
}
