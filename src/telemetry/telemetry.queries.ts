import { finished } from 'node:stream/promises';
import type { Pool, PoolClient } from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import type { SelectQueryBuilder } from 'typeorm';
import type { Tx } from '../platform/database/index.js';
import { type SizedRow, withinPageBytes } from '../platform/http/index.js';
import type { TelemetryBatch } from './telemetry-batch.entity.js';
import { TelemetryEvent } from './telemetry-event.entity.js';
import type { TelemetrySeries } from './telemetry-series.entity.js';

/** Columns in the order in which `encodeRows` writes them. */
const EVENT_COLUMNS = 'event_id, ts, received_at, series_id, value, event_type, source, data, metadata';
/** Rows deleted per statement, so that no delete holds its locks or the disk for long. */
const DELETE_AT_ONCE = 5000;

/** Runs a statement; one with a name is parsed and planned once for each connection. */
export type Run = <Row>(name: string, sql: string, values: unknown[]) => Promise<Row[]>;

const NEW_EVENTS = `
  INSERT INTO telemetry_events (${EVENT_COLUMNS})
  SELECT i, to_timestamp(t / 1000.0), to_timestamp(r / 1000.0), n, v, y, s, d, m
  FROM jsonb_to_recordset($1::jsonb)
    AS row(i uuid, t bigint, r bigint, n bigint, v double precision, y text, s text, d jsonb, m jsonb)
  ON CONFLICT DO NOTHING`;

const DIRTY_MINUTES = `
  INSERT INTO telemetry_dirty (resolution, bucket) SELECT 60, to_timestamp(minute) FROM unnest($2::bigint[]) AS minute`;

/** Stores events and notes their minutes, in seconds since 1970. SQL: the hot path of ingest, one statement for both. */
export async function insertEvents(run: Run, events: string, minutes: readonly number[]): Promise<void> {
  await run('telemetry-insert', `WITH dirty AS (${DIRTY_MINUTES}) ${NEW_EVENTS}`, [events, minutes]);
}

/** The same; @returns the ids that were new. SQL: as above. */
export async function insertNewEvents(run: Run, events: string, minutes: readonly number[]): Promise<Set<string>> {
  const stored = await run<{ event_id: string }>(
    'telemetry-insert-and-tell',
    `WITH stored AS (${NEW_EVENTS} RETURNING event_id), dirty AS (${DIRTY_MINUTES}) SELECT event_id FROM stored`,
    [events, minutes],
  );
  return new Set(stored.map((row) => row.event_id));
}

/** Stores events in the binary format of COPY. SQL: TypeORM has no COPY, the fastest way in. */
export async function copyEvents(client: PoolClient, encoded: Buffer): Promise<void> {
  const stream = client.query(copyFrom(`COPY telemetry_events (${EVENT_COLUMNS}) FROM STDIN (FORMAT binary)`));
  stream.end(encoded);
  await finished(stream);
}

/** Notes minutes, in seconds since 1970, whose rollups must be computed anew. SQL: the hot path of ingest. */
export async function insertDirtyMinutes(run: Run, minutes: readonly number[]): Promise<void> {
  await run(
    'telemetry-dirty',
    `INSERT INTO telemetry_dirty (resolution, bucket) SELECT 60, to_timestamp(minute) FROM unnest($1::bigint[]) AS minute`,
    [minutes],
  );
}

/** Stores what became of batches. SQL: the hot path of ingest, one statement for all of a flush. */
export async function insertBatches(run: Run, batches: readonly TelemetryBatch[]): Promise<void> {
  await run(
    'telemetry-batches',
    `INSERT INTO telemetry_batches (id, created_at, actor_id, accepted_count, duplicate_count, rejected_count, errors)
     SELECT id, "createdAt", "actorId", "acceptedCount", "duplicateCount", "rejectedCount", errors
     FROM jsonb_to_recordset($1::jsonb) AS batch(id uuid, "createdAt" timestamptz, "actorId" text,
       "acceptedCount" int, "duplicateCount" int, "rejectedCount" int, errors jsonb)`,
    [JSON.stringify(batches)],
  );
}

/** Begins a transaction. SQL, like the other two: the pool for bulk writes is not TypeORM's. */
export async function begin(client: PoolClient): Promise<void> {
  await client.query('BEGIN');
}

export async function commit(client: PoolClient): Promise<void> {
  await client.query('COMMIT');
}

export async function rollback(client: PoolClient): Promise<void> {
  await client.query('ROLLBACK');
}

type KnownSeries = Pick<TelemetrySeries, 'key' | 'id' | 'lastSeen'>;
/** The driver gives a bigint as text. */
type SeriesRow = Omit<KnownSeries, 'id'> & { id: string };

/** Series by their keys. SQL: the path of ingest, on the pool for bulk writes. */
export async function findSeries(pool: Pool, keys: readonly string[]): Promise<KnownSeries[]> {
  if (keys.length === 0) return [];
  const { rows } = await pool.query<SeriesRow>(
    `SELECT key, id, last_seen AS "lastSeen" FROM telemetry_series WHERE key = ANY($1::uuid[])`,
    [keys],
  );
  return rows.map((row) => ({ ...row, id: Number(row.id) }));
}

export type NewSeries = Pick<TelemetrySeries, 'key' | 'source' | 'metricName' | 'tags' | 'unit' | 'eventType'> & {
  firstSeen: number;
};

/** Adds series; @returns those that were not there. SQL: the path of ingest, on the pool for bulk writes. */
export async function insertSeries(pool: Pool, series: readonly NewSeries[]): Promise<KnownSeries[]> {
  if (series.length === 0) return [];
  const { rows } = await pool.query<SeriesRow>(
    `INSERT INTO telemetry_series (key, source, metric_name, tags, unit, event_type, first_seen, last_seen)
     SELECT key, source, "metricName", tags, unit, "eventType", seen, seen
     FROM jsonb_to_recordset($1::jsonb) AS series(key uuid, source text, "metricName" text, tags jsonb, unit text,
       "eventType" text, "firstSeen" bigint)
     CROSS JOIN LATERAL to_timestamp("firstSeen" / 1000.0) AS seen
     ON CONFLICT (key) DO NOTHING
     RETURNING key, id, last_seen AS "lastSeen"`,
    [JSON.stringify(series)],
  );
  return rows.map((row) => ({ ...row, id: Number(row.id) }));
}

/** Brings series up to date with the newest event of each (ms). SQL: one update of many rows. */
export async function touchSeries(pool: Pool, ids: readonly number[], lastSeen: readonly number[]): Promise<void> {
  await pool.query(
    `UPDATE telemetry_series s
     SET last_seen = greatest(s.last_seen, to_timestamp(t.seen / 1000.0)), last_received = now()
     FROM unnest($1::bigint[], $2::bigint[]) AS t(id, seen) WHERE s.id = t.id`,
    [ids, lastSeen],
  );
}

/** How many series each of these sources has. SQL: a count for each. */
export async function countSeries(tx: Tx, sources: readonly string[]): Promise<Map<string, number>> {
  const rows = await tx.query<{ source: string; count: number }[]>(
    `SELECT source, count(*)::int AS count FROM telemetry_series WHERE source = ANY($1) GROUP BY source`,
    [sources],
  );
  return new Map(rows.map(({ source, count }) => [source, count]));
}

export interface Seen {
  name: string;
  /** Of all pages. */
  total: number;
  firstSeen: Date;
  lastSeen: Date;
}
export type SeenMetric = Seen & { unit: string | null; sources: number; series: number };
export type SeenSource = Seen & { metrics: number };

export interface NamesPage {
  /** Name of the last item of the page before. */
  after: string | null;
  limit: number;
  offset: number;
}

/** Metrics by name, of one source or all. SQL: aggregates of all series, counted and cut into pages at once. */
export function listMetrics(
  tx: Tx,
  { source, own }: { source: string | null; own: string | null },
  page: NamesPage,
): Promise<SeenMetric[]> {
  return listNames(
    tx,
    `SELECT metric_name AS name, CASE WHEN count(DISTINCT unit) = 1 THEN min(unit) END AS unit,
            count(DISTINCT source)::int AS sources, count(*)::int AS series,
            min(first_seen) AS "firstSeen", max(last_seen) AS "lastSeen"
     FROM telemetry_series
     WHERE metric_name <> '' AND ($1::text IS NULL OR source = $1) AND ($2::text IS NULL OR source = $2)
     GROUP BY metric_name`,
    [source, own],
    page,
  );
}

/** Sources by name, of one metric or all. SQL: as above. */
export function listSources(
  tx: Tx,
  { metric, own }: { metric: string | null; own: string | null },
  page: NamesPage,
): Promise<SeenSource[]> {
  return listNames(
    tx,
    `SELECT source AS name, (count(DISTINCT metric_name) FILTER (WHERE metric_name <> ''))::int AS metrics,
            min(first_seen) AS "firstSeen", max(last_seen) AS "lastSeen"
     FROM telemetry_series
     WHERE ($1::text IS NULL OR metric_name = $1) AND ($2::text IS NULL OR source = $2)
     GROUP BY source`,
    [metric, own],
    page,
  );
}

function listNames<Row>(tx: Tx, sql: string, params: unknown[], { after, limit, offset }: NamesPage): Promise<Row[]> {
  return tx.query(
    `WITH found AS MATERIALIZED (${sql})
     SELECT *, (SELECT count(*)::int FROM found) AS total FROM found
     WHERE ($3::text IS NULL OR name > $3) ORDER BY name LIMIT $4 OFFSET $5`,
    [...params, after, limit, offset],
  );
}

/** Deletes events received before a time that no partition of a day holds. SQL: a batch at a time, of a table without an entity. */
export async function deleteOldEvents(pool: Pool, before: Date, signal: AbortSignal): Promise<void> {
  let deleted: number;
  do {
    signal.throwIfAborted();
    const { rowCount } = await pool.query(
      `DELETE FROM telemetry_events_old WHERE ctid IN
        (SELECT ctid FROM telemetry_events_old WHERE received_at < $1 LIMIT ${DELETE_AT_ONCE})`,
      [before],
    );
    deleted = rowCount ?? 0;
  } while (deleted === DELETE_AT_ONCE);
}

/** Which events a list asks for; every part narrows it. */
export interface EventFilter {
  sources: string[];
  eventType?: string;
  metric?: string;
  tags?: Record<string, string>;
  /** First and last time, ms. */
  from?: number;
  to?: number;
}

/** Part of a list: events after `since` up to and with `until` (ms), and before an event. */
export interface EventPart {
  stretch?: { since: number; until: number };
  before?: { ts: string; id: string };
}

/** Events of a list in no order. SQL: compares pairs, and keys inside JSON. */
export function selectEvents(tx: Tx, filter: EventFilter, part: EventPart): SelectQueryBuilder<TelemetryEvent> {
  const { eventType, metric, tags, from, to } = filter;
  const { stretch, before } = part;
  const list = tx.createQueryBuilder(TelemetryEvent, 'event');
  const time = (ms: number): string => new Date(ms).toISOString();
  for (const source of filter.sources) list.andWhere({ source });
  if (eventType !== undefined) list.andWhere({ eventType });
  if (from !== undefined) list.andWhere('event.ts >= :from', { from: time(from) });
  if (to !== undefined) list.andWhere('event.ts <= :to', { to: time(to) });
  if (metric !== undefined) list.andWhere(`event.data->>'metric_name' = :metric`, { metric });
  if (tags) list.andWhere(`event.data->'tags' @> :tags::jsonb`, { tags: JSON.stringify(tags) });
  if (stretch) {
    const { since, until } = stretch;
    list.andWhere('event.ts > :since AND event.ts <= :until', { since: time(since), until: time(until) });
  }
  // The first half is what an index on the time can use.
  if (before) list.andWhere('event.ts <= :ts AND (event.ts, event.eventId) < (:ts, :id::uuid)', before);
  return list;
}

export type StoredEvent = Omit<TelemetryEvent, 'seriesId' | 'value'>;
export type FoundEvent = StoredEvent & SizedRow;

/** Events of a list, the newest first, until their data fill `bytes`. SQL: a window function adds up their sizes. */
export function readEvents(
  tx: Tx,
  filter: EventFilter,
  part: EventPart,
  { limit, offset, bytes }: { limit: number; offset: number; bytes?: number },
): Promise<FoundEvent[]> {
  const list = selectEvents(tx, filter, part).select([]);
  for (const property of ['eventId', 'eventType', 'source', 'ts', 'receivedAt', 'data', 'metadata']) {
    list.addSelect(`event.${property}`, property);
  }
  const [sql, params] = list
    .orderBy('event.ts', 'DESC')
    .addOrderBy('event.eventId', 'DESC')
    .limit(limit)
    .offset(offset)
    .getQueryAndParameters();
  return tx.query(withinPageBytes(sql, ['data', 'metadata'], 'ts DESC, "eventId" DESC', bytes), params);
}
