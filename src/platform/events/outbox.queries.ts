import { randomUUID } from 'node:crypto';
import type { EntityManager } from 'typeorm';
import { prepared, type Tx } from '../database/index.js';
import type { EmittedEvent, EventDefinition, StoredEvent } from './event-definition.js';
import type { EventCheckpoint } from './event-checkpoint.entity.js';
import { type EventRow, toStoredEvent } from './event-row.js';

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

/** Who acts, and in which request. */
interface Origin {
  actorId: string;
  requestId: string | null;
}

const COLUMNS = [
  ...['id', 'seq', 'type', 'subject', 'data', 'actor_id AS "actorId"', 'request_id AS "requestId"'],
  ...['occurred_at AS "occurredAt"', 'source', 'metadata', 'priority', 'correlation_id AS "correlationId"'],
  'expires_at AS "expiresAt"',
];
const COLUMNS_OF_E = COLUMNS.map((column) => `e.${column}`).join();

const INSERT = prepared(
  'events.publish',
  `INSERT INTO events (id, type, subject, data, actor_id, request_id)
   SELECT id, type, subject, data, $5, $6
   FROM unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[]) WITH ORDINALITY AS e (id, type, subject, data, n)
   ORDER BY n`,
);

/** Writes down the server's own events. SQL because nearly every change does it: one statement, and PostgreSQL keeps its plan. */
export async function insertEvents(
  tx: Tx,
  events: readonly { event: EventDefinition<object>; subject: string; data: object }[],
  { actorId, requestId }: Origin,
): Promise<void> {
  await tx.query(INSERT, [
    events.map(() => randomUUID()),
    events.map((e) => e.event.type),
    events.map((e) => e.subject),
    events.map((e) => JSON.stringify(e.data)),
    actorId,
    requestId,
  ]);
}

const EMIT = prepared(
  'events.emit',
  `INSERT INTO events (id, type, data, actor_id, request_id, source, metadata, priority, correlation_id, expires_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING ${COLUMNS.join()}`,
);

/** Writes down an event of a caller. SQL because callers send many: PostgreSQL keeps its plan. */
export async function insertEmitted(
  tx: Tx,
  { type, data, source, metadata, priority, correlationId, expiresAt }: EmittedEvent,
  { actorId, requestId }: Origin,
): Promise<StoredEvent> {
  const [row] = await tx.query<EventRow[]>(EMIT, [
    randomUUID(),
    type,
    JSON.stringify(data),
    actorId,
    requestId,
    source,
    metadata === null ? null : JSON.stringify(metadata),
    priority,
    correlationId,
    expiresAt,
  ]);
  return toStoredEvent(row);
}

const LOCK = prepared('events.relayLock', 'SELECT pg_try_advisory_xact_lock($1) AS locked');

/** Takes the lock until the end of the transaction, unless another has it. SQL: TypeORM knows no advisory locks. */
export async function tryLock(tx: Tx, lock: string): Promise<boolean> {
  const [{ locked }] = await tx.query<{ locked: boolean }[]>(LOCK, [lock]);
  return locked;
}

const BATCH = 500;
/** Of a round after one that found few: its plan is kept. */
const QUIET_BATCH = 16;
/** Of the events of a batch, which the relay and the jobs hold in memory; a single larger event is a batch of its own. */
const BATCH_BYTES = 8 * 1024 * 1024;
/** What is not compressed need not be read to know its size. */
const EVENT_BYTES = ['data', 'metadata']
  .map(
    (name) => `coalesce(CASE WHEN pg_column_compression(${name}) IS NULL THEN pg_column_size(${name})
      ELSE octet_length(${name}::text) END, 0)`,
  )
  .join(' + ');
const relay = (batch: number): string =>
  `WITH waiting AS (
     SELECT id, position, ${EVENT_BYTES} AS bytes
     FROM events WHERE relayed_at IS NULL ORDER BY position LIMIT ${batch}
   ), sized AS (
     SELECT id, position, sum(bytes) OVER up_to AS bytes, row_number() OVER up_to AS n, count(*) OVER () AS waiting
     FROM waiting WINDOW up_to AS (ORDER BY position ROWS UNBOUNDED PRECEDING)
   ), placed AS (
     SELECT id, waiting, nextval('events_seq') AS seq
     FROM (SELECT id, waiting FROM sized WHERE n = 1 OR bytes <= ${BATCH_BYTES} ORDER BY position) ordered
   )
   UPDATE events e SET seq = coalesce(e.seq, p.seq), relayed_at = now()
   FROM placed p WHERE e.id = p.id
   RETURNING ${COLUMNS_OF_E}, p.waiting::int`;
/** Planned anew: how a large batch is best joined depends on the size of the outbox. */
const RELAY = relay(BATCH);
const RELAY_QUIET = prepared('events.relay', relay(QUIET_BATCH));

/**
 * Gives the oldest events that wait their places. SQL: sizes, places and the mark in one statement.
 * @param quiet takes few, with a plan that is kept
 * @returns them in their order, and whether more may be waiting than these
 */
export async function placeEvents(
  tx: Tx,
  quiet: boolean,
): Promise<{ events: StoredEvent[]; more: boolean; few: boolean }> {
  const [rows] = await tx.query<[(EventRow & { waiting: number })[], number]>(quiet ? RELAY_QUIET : RELAY);
  const waiting = rows.at(0)?.waiting ?? 0;
  const events = rows
    .map(({ waiting: _waiting, ...row }) => toStoredEvent(row))
    .sort((a, b) => (BigInt(a.seq) < BigInt(b.seq) ? -1 : 1));
  const more = rows.length < waiting || waiting === (quiet ? QUIET_BATCH : BATCH);
  return { events, more, few: rows.length < QUIET_BATCH };
}

/** Events placed after `seq`, in order. SQL because it runs in every process for every event that somebody listens to. */
export async function eventsAfter(db: EntityManager, seq: string, limit: number): Promise<StoredEvent[]> {
  const rows = await db.query<EventRow[]>(
    `SELECT ${COLUMNS.join()} FROM events WHERE seq > $1::bigint ORDER BY seq LIMIT $2`,
    [seq, limit],
  );
  return rows.map(toStoredEvent);
}

/** The same up to `last`, of one type or of all (null). SQL: with the columns that all events are read by. */
export async function relayedEvents(
  tx: Tx,
  { after, last, type, limit }: { after: number; last: number; type: string | null; limit: number },
): Promise<StoredEvent[]> {
  const rows = await tx.query<EventRow[]>(
    `SELECT ${COLUMNS.join()} FROM events
     WHERE seq > $1::bigint AND seq <= $2::bigint AND ($3::text IS NULL OR type = $3) AND relayed_at IS NOT NULL
     ORDER BY seq LIMIT $4`,
    [after, last, type, limit],
  );
  return rows.map(toStoredEvent);
}

/** SQL: a checkpoint only moves on, and TypeORM has no condition on what an insert updates. */
export async function advanceCheckpoints(tx: Tx, reached: readonly EventCheckpoint[]): Promise<void> {
  await tx.query(
    `INSERT INTO event_checkpoints AS c (handler, seq) SELECT * FROM unnest($1::text[], $2::bigint[])
     ON CONFLICT (handler) DO UPDATE SET seq = excluded.seq WHERE c.seq < excluded.seq`,
    [reached.map(({ handler }) => handler), reached.map(({ seq }) => seq)],
  );
}

/** How many events wait for the relay, counted up to `limit`, and how long the oldest of them does. SQL: counts no further. */
export async function countUnrelayed(db: EntityManager, limit: number): Promise<{ unrelayed: number; lagMs: number }> {
  const [counted] = await db.query<{ unrelayed: number; lagMs: number }[]>(
    `SELECT count(*)::int AS unrelayed,
       coalesce(extract(epoch FROM clock_timestamp() - min(occurred_at)) * 1000, 0)::float8 AS "lagMs"
     FROM (SELECT occurred_at FROM events WHERE relayed_at IS NULL ORDER BY position LIMIT $1) AS waiting`,
    [limit],
  );
  return counted;
}

/** Which of the names and patterns fit no event that is kept. SQL: each is one look into an index of the names, forward or backward. */
export async function neverEmitted(db: EntityManager, patterns: readonly string[]): Promise<string[]> {
  const names = patterns.filter((pattern) => !pattern.includes('*'));
  const begins = patterns.filter((pattern) => !pattern.startsWith('*') && pattern.endsWith('.*'));
  const ends = patterns.filter((pattern) => pattern.startsWith('*.') && !pattern.endsWith('*'));
  const rows = await db.query<{ pattern: string }[]>(
    `SELECT pattern FROM unnest($1::text[]) AS pattern WHERE NOT EXISTS (SELECT FROM events WHERE type = pattern)
     UNION ALL
     SELECT pattern FROM unnest($2::text[]) AS pattern WHERE NOT EXISTS (
       SELECT FROM events WHERE type ~>=~ rtrim(pattern, '*') AND type ~<~ (rtrim(pattern, '.*') || '/'))
     UNION ALL
     SELECT pattern FROM unnest($3::text[]) AS pattern WHERE NOT EXISTS (
       SELECT FROM events
       WHERE reverse(type) ~>=~ reverse(ltrim(pattern, '*')) AND reverse(type) ~<~ (reverse(ltrim(pattern, '*.')) || '/'))`,
    [names, begins, ends],
  );
  return rows.map(({ pattern }) => pattern);
}

/** Deletes relayed events and notes up to which place. SQL: both in one statement. @returns how many there were */
export async function removeEvents(tx: Tx, ids: readonly string[]): Promise<number> {
  const [{ count }] = await tx.query<{ count: number }[]>(
    `WITH removed AS (DELETE FROM events WHERE id = ANY ($1::uuid[]) AND relayed_at IS NOT NULL RETURNING seq),
     noted AS (UPDATE events_removed SET up_to = greatest(up_to, (SELECT max(seq) FROM removed)))
     SELECT count(*)::int AS count FROM removed`,
    [ids],
  );
  return count;
}

/** A row of {@link pageOfEvents}; one that does not match is only a step on the way. */
export type PageRow = HistoryPlace & { matches: boolean };

/** The next `limit` events by time. SQL: the conditions that no index serves are asked of these alone, so that no page takes long. */
export async function pageOfEvents(
  db: EntityManager,
  filter: HistoryFilter,
  after: HistoryPlace | null,
  limit: number,
): Promise<(PageRow & { event: StoredEvent })[]> {
  const { sql, params } = pageOf(filter, after, limit, COLUMNS_OF_E);
  const rows = await db.query<(PageRow & EventRow)[]>(sql, params);
  return rows.map(({ at, matches, ...row }) => ({ at, id: row.id, matches, event: toStoredEvent(row) }));
}

/** The same without the events' content. */
export function pageOfPlaces(
  db: EntityManager,
  filter: HistoryFilter,
  after: HistoryPlace | null,
  limit: number,
): Promise<PageRow[]> {
  const { sql, params } = pageOf(filter, after, limit, 'e.id');
  return db.query<PageRow[]>(sql, params);
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
