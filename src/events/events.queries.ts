import type { EntityManager } from 'typeorm';
import type { Actor } from '../platform/context/index.js';
import { prepared } from '../platform/database/index.js';
import { type DomainEvent, type EventPriority, type ReadingRule, SERVER_SOURCE } from '../platform/events/index.js';
import { type SizedRow, withinPageBytes } from '../platform/http/index.js';
import type { EventSubscription } from './event-subscription.entity.js';
import type { EventStatus } from './events.dto.js';

/** Who reads, and which kinds of events they may read. */
export interface EventReader {
  actor: Actor;
  rules: readonly ReadingRule[];
}

/** Which events are meant; what is left out does not matter. */
export interface EventCriteria {
  /** UUID. */
  id?: string;
  /** A name, `orders.*`, `*.created` or `*`. */
  eventType?: string;
  source?: string;
  from?: Date;
  /** Exclusive. */
  to?: Date;
  correlationId?: string;
  priority?: EventPriority;
  /** Left out: all that are not expired. */
  status?: EventStatus | 'any';
}

export type FoundEvent = Pick<
  DomainEvent,
  | 'id'
  | 'type'
  | 'subject'
  | 'data'
  | 'actorId'
  | 'occurredAt'
  | 'source'
  | 'metadata'
  | 'priority'
  | 'correlationId'
  | 'expiresAt'
> & {
  relayed: boolean;
  expired: boolean;
  /** `occurredAt` in microseconds: a Date holds no more than milliseconds. */
  micros: string;
};

const COLUMNS = `id, type, subject, data, actor_id AS "actorId", occurred_at AS "occurredAt", source, metadata, priority,
  correlation_id AS "correlationId", expires_at AS "expiresAt", relayed_at IS NOT NULL AS relayed,
  coalesce(expires_at <= now(), false) AS expired, (extract(epoch FROM occurred_at) * 1000000)::bigint AS micros`;

/** The event, if the actor may read it. SQL: for its conditions, see {@link conditionsFor}. */
export async function findEvent(db: EntityManager, reader: EventReader, id: string): Promise<FoundEvent | undefined> {
  const { where, params } = conditionsFor(reader, { id, status: 'any' });
  const [event] = await db.query<FoundEvent[]>(`SELECT ${COLUMNS} FROM events WHERE ${where}`, params);
  return event;
}

/** How many events there are, counted up to `limit`. SQL: counts no further, however many there are. */
export async function countEvents(
  db: EntityManager,
  reader: EventReader,
  criteria: EventCriteria,
  limit: number,
): Promise<number> {
  const { where, params } = conditionsFor(reader, criteria);
  const [{ total }] = await db.query<[{ total: number }]>(
    `SELECT count(*)::int AS total FROM (SELECT 1 FROM events WHERE ${where} LIMIT ${limit}) AS matching`,
    params,
  );
  return total;
}

/** Events in the order of their time. SQL: seeks by microseconds, and ends with what one page may hold. @param after `micros` and id of the last one seen */
export function listEvents(
  db: EntityManager,
  reader: EventReader,
  criteria: EventCriteria,
  page: { oldestFirst: boolean; limit: number; offset: number; after?: readonly [micros: string, id: string] },
): Promise<(FoundEvent & SizedRow)[]> {
  const { where, params } = conditionsFor(reader, criteria);
  const [comparison, order] = page.oldestFirst ? ['>', 'ASC'] : ['<', 'DESC'];
  const [at, id] = [`$${params.length + 1}`, `$${params.length + 2}`];
  const seek = page.after
    ? `AND (occurred_at, id) ${comparison} ('epoch'::timestamptz + ${at}::float8 * interval '1 microsecond', ${id}::uuid)`
    : '';
  const sorted = `"occurredAt" ${order}, id ${order}`;
  const events = `SELECT ${COLUMNS} FROM events WHERE ${where} ${seek}
    ORDER BY ${sorted} LIMIT ${page.limit} OFFSET ${page.offset}`;
  return db.query(withinPageBytes(events, ['data', 'metadata'], sorted), [...params, ...(page.after ?? [])]);
}

const SOURCE = `coalesce(source, '${SERVER_SOURCE}')`;
const KEYS = { type: 'type', source: SOURCE, priority: 'priority' } as const;

export interface CountedEvents {
  /** Which column is counted by; null: all together. */
  by: keyof typeof KEYS | 'step' | null;
  key: string | null;
  step: Date | null;
  count: number;
  pending: number;
  expired: number;
  /** How many there are of the same `by`. */
  kinds: number;
}

/**
 * Counts events together, by steps of time, and by the most frequent values of each column. SQL: all in one pass (grouping sets
 * and window functions).
 */
export function countBySets(
  db: EntityManager,
  reader: EventReader,
  criteria: EventCriteria,
  { unit, limit }: { unit: 'hour' | 'day'; limit: number },
): Promise<CountedEvents[]> {
  const { where, params } = conditionsFor(reader, criteria);
  return db.query(
    `SELECT * FROM (
       SELECT CASE grouping(type, source, priority, step) WHEN 7 THEN 'type' WHEN 11 THEN 'source' WHEN 13 THEN 'priority'
           WHEN 14 THEN 'step' END AS by,
         coalesce(type, source, priority) AS key, step, count(*)::int AS count,
         count(*) FILTER (WHERE pending)::int AS pending, count(*) FILTER (WHERE expired)::int AS expired,
         count(*) OVER same AS kinds, row_number() OVER (same ORDER BY count(*) DESC, coalesce(type, source, priority)) AS rank
       FROM (
         SELECT type, ${SOURCE} AS source, priority, date_trunc('${unit}', occurred_at, 'UTC') AS step,
           relayed_at IS NULL AS pending, coalesce(expires_at <= now(), false) AS expired
         FROM events WHERE ${where}) AS found
       GROUP BY GROUPING SETS ((), (type), (source), (priority), (step))
       WINDOW same AS (PARTITION BY grouping(type, source, priority, step))) AS counted
     WHERE step IS NOT NULL OR rank <= ${limit} ORDER BY step, rank`,
    params,
  );
}

/** Counts events by steps of time and these values of a column. SQL: counts by expressions. */
export function countBySteps(
  db: EntityManager,
  reader: EventReader,
  criteria: EventCriteria,
  { unit, by, keys }: { unit: 'hour' | 'day'; by: keyof typeof KEYS; keys: readonly (string | null)[] },
): Promise<{ step: Date; key: string; count: number }[]> {
  const { where, params } = conditionsFor(reader, criteria);
  return db.query(
    `SELECT date_trunc('${unit}', occurred_at, 'UTC') AS step, ${KEYS[by]} AS key, count(*)::int AS count
     FROM events WHERE ${where} AND ${KEYS[by]} = ANY ($${params.length + 1}) GROUP BY 1, 2 ORDER BY 1, 3 DESC`,
    [...params, keys],
  );
}

/** Saved streams that are looked at for one event. */
const MAX_STREAMS = 1000;

const STREAMS = prepared(
  'events.streams',
  `SELECT filters FROM event_subscriptions
   WHERE enabled AND delivery_method = 'stream' AND event_patterns && $1::text[] AND $2 = ANY (reader_scopes)
   LIMIT ${MAX_STREAMS}`,
);

/**
 * The first thousand saved streams with one of these patterns whose owner has the scope.
 * SQL: prepared, each event that is emitted runs it; goes by an index over the arrays.
 */
export function streamsWanting(
  db: EntityManager,
  patterns: readonly string[],
  scope: string,
): Promise<Pick<EventSubscription, 'filters'>[]> {
  return db.query(STREAMS, [patterns, scope]);
}

interface Conditions {
  /** SQL over `events`, never empty. */
  where: string;
  params: unknown[];
}

const ALIVE = '(expires_at IS NULL OR expires_at > now())';
const STATUS = {
  pending: `relayed_at IS NULL AND ${ALIVE}`,
  published: `relayed_at IS NOT NULL AND ${ALIVE}`,
  expired: 'expires_at <= now()',
  any: 'true',
};

/** The events that are meant and that the actor may read: each kind needs its scope, and an agent sees only its own. */
function conditionsFor({ actor, rules }: EventReader, criteria: EventCriteria): Conditions {
  const params: unknown[] = [];
  const clauses = [criteria.status ? STATUS[criteria.status] : ALIVE];
  const add = (clause: string, value: unknown): void => {
    params.push(value);
    clauses.push(clause.replaceAll('?', `$${params.length}`));
  };
  const { id, eventType = '*', source, from, to, correlationId, priority } = criteria;
  if (id !== undefined) add('id = ?', id);
  if (!eventType.includes('*')) add('type = ?', eventType);
  else if (eventType.endsWith('.*')) add('type LIKE ?', `${escaped(eventType.slice(0, -1))}_%`);
  else if (eventType.startsWith('*.')) add('reverse(type) LIKE ?', `${escaped(reversed(eventType.slice(1)))}_%`);
  if (source === SERVER_SOURCE) clauses.push('source IS NULL');
  else if (source !== undefined) add('source = ?', source);
  if (from) add('occurred_at >= ?', from);
  if (to) add('occurred_at < ?', to);
  if (correlationId !== undefined) add('correlation_id = ?', correlationId);
  // Named in full where it is rare, so that the index over the rare ones is of use.
  if (priority === 'normal') clauses.push(`priority = 'normal'`);
  else if (priority) add(`priority = ? AND priority <> 'normal'`, priority);
  if (!rules.every(({ may }) => may)) clauses.push(readable(rules));
  if (actor.type === 'agent') add(`(actor_id = ? OR subject = ? OR data ->> 'agent_id' = ?)`, actor.id);
  return { where: clauses.join(' AND '), params };
}

/** The patterns are ours, not a caller's. The first rule that names a kind holds. */
function readable(rules: readonly ReadingRule[]): string {
  const cases = rules.map(({ pattern, may }) => `WHEN ${named(pattern)} THEN ${may}`);
  return `CASE ${cases.join(' ')} ELSE false END`;
}

function named(pattern: string): string {
  if (!pattern.includes('*')) return `type = '${pattern}'`;
  return `type LIKE '${pattern.split('*').map(escaped).join('_%')}'`;
}

function escaped(text: string): string {
  return text.replace(/[\\%_]/g, '\\$&');
}

function reversed(text: string): string {
  return [...text].reverse().join('');
}
