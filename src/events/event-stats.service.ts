import { Injectable } from '@nestjs/common';
import type { Actor } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { OutboxStatus, SERVER_SOURCE } from '../platform/events/index.js';
import { type Conditions, conditionsFor } from './event-conditions.js';
import type { EventHealthDto, EventStatsDto, EventStatsQueryDto, Grouping } from './event-stats.dto.js';

const DAY_MS = 86_400_000;
const MOST_DAYS = 31;
/** Longer ranges are shown by the day. */
const DAYS_BY_HOUR = 7;
const MOST_KINDS = 100;
const MOST_GROUPS = 10;
const DEGRADED_MS = 5_000;
const UNHEALTHY_MS = 30_000;
const FRESH_FAILURE_MS = 15 * 60_000;

const SOURCE = `coalesce(source, '${SERVER_SOURCE}')`;
const KEYS = { type: 'type', source: SOURCE, priority: 'priority' } as const;

interface Range {
  from: Date;
  to: Date;
}

interface Counted {
  /** Which column is counted by; null: all together. */
  by: 'type' | 'source' | 'priority' | 'step' | null;
  key: string | null;
  step: Date | null;
  count: number;
  pending: number;
  expired: number;
  /** How many there are of the same `by`. */
  kinds: number;
}

/** Counts of events (row EVT-06), of those that the actor may read. */
@Injectable()
export class EventStats {
  constructor(
    private readonly db: Database,
    private readonly outbox: OutboxStatus,
  ) {}

  /** @throws AppError `validation` for a range that is empty or longer than 31 days */
  async count(actor: Actor, query: EventStatsQueryDto): Promise<EventStatsDto> {
    const range = rangeOf(query);
    const conditions = conditionsFor(actor, { ...range, status: 'any' });
    const unit = unitOf(query.group_by, range);
    const rows = await this.db.query<Counted>(
      `SELECT * FROM (
         SELECT CASE grouping(type, source, priority, step) WHEN 7 THEN 'type' WHEN 11 THEN 'source' WHEN 13 THEN 'priority'
             WHEN 14 THEN 'step' END AS by,
           coalesce(type, source, priority) AS key, step, count(*)::int AS count,
           count(*) FILTER (WHERE pending)::int AS pending, count(*) FILTER (WHERE expired)::int AS expired,
           count(*) OVER same AS kinds, row_number() OVER (same ORDER BY count(*) DESC, coalesce(type, source, priority)) AS rank
         FROM (
           SELECT type, ${SOURCE} AS source, priority, date_trunc('${unit}', occurred_at, 'UTC') AS step,
             relayed_at IS NULL AS pending, coalesce(expires_at <= now(), false) AS expired
           FROM events WHERE ${conditions.where}) AS found
         GROUP BY GROUPING SETS ((), (type), (source), (priority), (step))
         WINDOW same AS (PARTITION BY grouping(type, source, priority, step))) AS counted
       WHERE step IS NOT NULL OR rank <= ${MOST_KINDS} ORDER BY step, rank`,
      conditions.params,
    );
    const of = (by: Counted['by']): Counted[] => rows.filter((row) => row.by === by);
    const groups = await this.groups(conditions, unit, query.group_by, rows);
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
    const fresh = failures.some(({ last_failed_at }) => now - last_failed_at.getTime() < FRESH_FAILURE_MS);
    const late = relay.lagMs >= DEGRADED_MS || fresh || queues === null;
    return {
      status: relay.lagMs >= UNHEALTHY_MS ? 'unhealthy' : late ? 'degraded' : 'healthy',
      relay: { unrelayed: relay.unrelayed, unrelayed_is_exact: relay.exact, lag_ms: relay.lagMs },
      handlers: {
        failed: failures.reduce((sum, { failed }) => sum + failed, 0),
        by_handler: failures.map((one) => ({ ...one, last_failed_at: one.last_failed_at.toISOString() })),
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
    { where, params }: Conditions,
    unit: 'hour' | 'day',
    by: Grouping | undefined,
    rows: readonly Counted[],
  ): Promise<Map<string, Record<string, number>> | null> {
    if (by !== 'type' && by !== 'source' && by !== 'priority') return null;
    const keys = rows.filter((row) => row.by === by).slice(0, MOST_GROUPS);
    const found = await this.db.query<{ step: Date; key: string; count: number }>(
      `SELECT date_trunc('${unit}', occurred_at, 'UTC') AS step, ${KEYS[by]} AS key, count(*)::int AS count
       FROM events WHERE ${where} AND ${KEYS[by]} = ANY ($${params.length + 1}) GROUP BY 1, 2 ORDER BY 1, 3 DESC`,
      [...params, keys.map(({ key }) => key)],
    );
    const groups = new Map<string, Record<string, number>>();
    for (const { step, key, count } of found) {
      const at = step.toISOString();
      groups.set(at, { ...groups.get(at), [key]: count });
    }
    return groups;
  }
}

function summaryOf({ from, to }: Range, rows: readonly Counted[]): EventStatsDto['summary'] {
  const kinds = (by: Counted['by']): number => Number(rows.find((row) => row.by === by)?.kinds ?? 0);
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
  if (to.getTime() - from.getTime() > MOST_DAYS * DAY_MS) throw rangeIssue(`at most ${MOST_DAYS} days before end_time`);
  return { from, to };
}

function unitOf(by: Grouping | undefined, { from, to }: Range): 'hour' | 'day' {
  if (by === 'hour' || by === 'day') return by;
  return to.getTime() - from.getTime() <= DAYS_BY_HOUR * DAY_MS ? 'hour' : 'day';
}

function rangeIssue(issue: string): AppError {
  return AppError.validation({ field: 'start_time', issue, location: 'query' });
}
