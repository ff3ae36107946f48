import type { PoolClient } from 'pg';
import { advisoryLock, type Tx } from '../platform/database/index.js';
import type { DirtyBucket } from './dirty-bucket.entity.js';
import type { QueryMetricsDto } from './metrics.dto.js';
import type { Resolution } from './resolutions.js';
import type { Segment } from './segments.js';
import type { Run } from './telemetry.queries.js';
import type { TelemetrySeries } from './telemetry-series.entity.js';

/** One roller at a time across all processes. */
const ROLLUP_LOCK = advisoryLock('telemetry.roll-up');
/** Past this many sources the time index finds raw events faster than theirs. */
const MANY_SOURCES = 100;

/** A bucket of a resolution of ours. */
export type Bucket = DirtyBucket & { resolution: Resolution };

/** Many flushes name the same minute; keeps one row of each, so that the list stays short. SQL: deletes and inserts at once. */
export async function compactDirty(client: PoolClient): Promise<void> {
  await client.query(`
    WITH taken AS (DELETE FROM telemetry_dirty WHERE pg_try_advisory_xact_lock(${ROLLUP_LOCK}) RETURNING *)
    INSERT INTO telemetry_dirty SELECT DISTINCT resolution, bucket FROM taken`);
}

/** The first of the buckets that were over at `time` (ms). SQL: adds up columns. */
export async function nextDirty(client: PoolClient, time: number): Promise<Bucket | undefined> {
  const due = await client.query<Bucket>(
    `SELECT resolution, bucket FROM telemetry_dirty
     WHERE bucket + resolution * interval '1 second' <= to_timestamp($1 / 1000.0)
     ORDER BY resolution, bucket LIMIT 1`,
    [time],
  );
  return due.rows[0];
}

/** Makes a transaction one that rolls up. SQL: settings and a lock of the transaction. @returns false when another process is at it */
export async function lockRollups(client: PoolClient, timeoutMs: number): Promise<boolean> {
  // Losing the last of these commits in a crash only means doing it again.
  await client.query(`SET LOCAL synchronous_commit = off`);
  await client.query(`SET LOCAL statement_timeout = ${timeoutMs}`);
  const lock = await client.query<{ mine: boolean }>(`SELECT pg_try_advisory_xact_lock(${ROLLUP_LOCK}) AS mine`);
  return lock.rows[0].mine;
}

/** Takes a bucket off the list. SQL, like the next: on the connection that rolls up, which is not TypeORM's. */
export async function deleteDirty(client: PoolClient, { resolution, bucket }: Bucket): Promise<void> {
  await client.query(`DELETE FROM telemetry_dirty WHERE resolution = $1 AND bucket = $2`, [resolution, bucket]);
}

export async function insertDirty(client: PoolClient, { resolution, bucket }: Bucket): Promise<void> {
  await client.query(`INSERT INTO telemetry_dirty (resolution, bucket) VALUES ($1, $2)`, [resolution, bucket]);
}

const REPLACE_ROLLUPS = `
  INSERT INTO telemetry_rollups
    (resolution, series_id, bucket, count, sum, min, max, last_at, last, bins, bin_counts)
  SELECT $1, series_id, $2, t.n, t.total, t.low, t.high, to_timestamp(t.latest[1]), t.latest[2], b.bins, b.counts
  FROM totals t
  JOIN (SELECT series_id, array_agg(bin ORDER BY bin) AS bins, array_agg(n ORDER BY bin) AS counts
        FROM bins GROUP BY series_id) b USING (series_id)
  ON CONFLICT (resolution, series_id, bucket) DO UPDATE SET
    count = excluded.count, sum = excluded.sum, min = excluded.min, max = excluded.max, last_at = excluded.last_at,
    last = excluded.last, bins = excluded.bins, bin_counts = excluded.bin_counts`;

/** Computes the rollups of `[bucket, stop)` from the raw events. SQL: aggregates that the database stores itself. */
export async function rollUpEvents(client: PoolClient, { resolution, bucket }: Bucket, stop: Date): Promise<void> {
  await client.query(
    `WITH bins AS MATERIALIZED (
       SELECT series_id, telemetry_bin(value) AS bin, count(*) AS n, sum(value) AS total, min(value) AS low,
              max(value) AS high, max(ARRAY[extract(epoch FROM ts)::float8, value]) AS latest
       FROM telemetry_events
       WHERE ts >= $2 AND ts < $3 AND series_id IS NOT NULL AND value IS NOT NULL
       GROUP BY series_id, bin
     ), totals AS (
       SELECT series_id, sum(n) AS n, sum(total) AS total, min(low) AS low, max(high) AS high, max(latest) AS latest
       FROM bins GROUP BY series_id
     ) ${REPLACE_ROLLUPS}`,
    [resolution, bucket, stop],
  );
}

/** The same from the rollups of a finer resolution. SQL: as above. */
export async function rollUpFiner(
  client: PoolClient,
  { resolution, bucket }: Bucket,
  stop: Date,
  finer: Resolution,
): Promise<void> {
  await client.query(
    `WITH parts AS MATERIALIZED (
       SELECT * FROM telemetry_rollups WHERE resolution = $4 AND bucket >= $2 AND bucket < $3
     ), bins AS (
       SELECT series_id, b.bin, sum(b.n) AS n FROM parts, unnest(bins, bin_counts) AS b(bin, n) GROUP BY series_id, b.bin
     ), totals AS (
       SELECT series_id, sum(count) AS n, sum(sum) AS total, min(min) AS low, max(max) AS high,
              max(ARRAY[extract(epoch FROM last_at)::float8, last]) AS latest
       FROM parts GROUP BY series_id
     ) ${REPLACE_ROLLUPS}`,
    [resolution, bucket, stop, finer],
  );
}

/** A point of a series, ms. */
export interface Point {
  seriesId: number;
  ts: number;
  value: number;
}

/** Adds points to the rollups there are, or begins new ones, where they are kept since a time. SQL: aggregates, merged in place. */
export async function addToRollups(
  run: Run,
  points: readonly Point[],
  resolutions: readonly Resolution[],
  since: readonly Date[],
): Promise<void> {
  await run(
    'telemetry-add-to-rollups',
    `WITH points AS (
       SELECT resolution, "seriesId" AS series_id, date_bin(resolution * interval '1 second', at, 'epoch') AS bucket, at, value
       FROM jsonb_to_recordset($1::jsonb) AS point("seriesId" bigint, ts bigint, value double precision)
       CROSS JOIN LATERAL to_timestamp(ts / 1000.0) AS at
       CROSS JOIN unnest($2::int[], $3::timestamptz[]) AS kept(resolution, since)
       WHERE date_bin(resolution * interval '1 second', at, 'epoch') >= since
     ), bins AS (
       SELECT resolution, series_id, bucket, telemetry_bin(value) AS bin, count(*) AS n FROM points GROUP BY 1, 2, 3, 4
     ), totals AS (
       SELECT resolution, series_id, bucket, count(*) AS n, sum(value) AS total, min(value) AS low, max(value) AS high,
              max(ARRAY[extract(epoch FROM at)::float8, value]) AS latest
       FROM points GROUP BY 1, 2, 3
     )
     INSERT INTO telemetry_rollups AS kept
       (resolution, series_id, bucket, count, sum, min, max, last_at, last, bins, bin_counts)
     SELECT resolution, series_id, bucket, t.n, t.total, t.low, t.high, to_timestamp(t.latest[1]), t.latest[2],
            b.bins, b.counts
     FROM totals t
     JOIN (SELECT resolution, series_id, bucket, array_agg(bin ORDER BY bin) AS bins, array_agg(n ORDER BY bin) AS counts
           FROM bins GROUP BY 1, 2, 3) b USING (resolution, series_id, bucket)
     -- One order everywhere: two transactions must not wait for each other in a circle.
     ORDER BY resolution, series_id, bucket
     ON CONFLICT (resolution, series_id, bucket) DO UPDATE SET
       count = kept.count + excluded.count, sum = kept.sum + excluded.sum,
       min = least(kept.min, excluded.min), max = greatest(kept.max, excluded.max),
       last = CASE WHEN (excluded.last_at, excluded.last) > (kept.last_at, kept.last) THEN excluded.last ELSE kept.last END,
       last_at = greatest(kept.last_at, excluded.last_at),
       (bins, bin_counts) = (
         SELECT array_agg(bin ORDER BY bin), array_agg(n ORDER BY bin)
         FROM (SELECT bin, sum(n)::bigint AS n
               FROM (SELECT * FROM unnest(kept.bins, kept.bin_counts)
                     UNION ALL SELECT * FROM unnest(excluded.bins, excluded.bin_counts)) AS either(bin, n)
               GROUP BY bin) AS merged)`,
    [JSON.stringify(points), resolutions, since],
  );
}

/** Buckets between two times (ms) that wait to be rolled up. SQL: adds up columns. */
export function dirtyBuckets(tx: Tx, from: number, to: number): Promise<Bucket[]> {
  return tx.query(
    `SELECT DISTINCT resolution, bucket FROM telemetry_dirty
     WHERE bucket < to_timestamp($2 / 1000.0) AND bucket + resolution * interval '1 second' > to_timestamp($1 / 1000.0)`,
    [from, to],
  );
}

/** A series of a metric, `id` as the driver gives it, and the name of the group that it belongs to. */
export type LabelledSeries = Pick<TelemetrySeries, 'source' | 'unit'> & { id: string; label: string | null };

/** Series of a metric, by their groups. SQL: looks into tags, and labels each series by one of them. */
export function labelledSeries(
  tx: Tx,
  { metric_name, source, tags, group_by }: QueryMetricsDto,
  ownSource: string | null,
  limit: number,
): Promise<LabelledSeries[]> {
  // Sorted only once they are known to be few.
  return tx.query(
    `SELECT * FROM (
       SELECT id, source, unit, CASE $5::text WHEN 'source' THEN source ELSE tags->>$5 END AS label FROM telemetry_series
       WHERE metric_name = $1 AND ($2::text IS NULL OR source = $2) AND ($3::text IS NULL OR source = $3)
         AND tags @> $4::jsonb
       LIMIT $6
     ) AS found
     ORDER BY label, id`,
    [metric_name, source ?? null, ownSource, JSON.stringify(tags ?? {}), group_by ?? null, limit],
  );
}

/** What is asked of stored metrics: series with the group of each, and what to read of their time. */
export interface MetricParts {
  series: readonly Pick<LabelledSeries, 'id' | 'source'>[];
  groups: readonly number[];
  segments: readonly Segment[];
  intervalSeconds: number;
}

const WANTED = `wanted AS (SELECT * FROM unnest($1::bigint[], $2::int[]) AS w(series_id, grp))`;

const ROLLED = `
  unnest($3::int[], $4::timestamptz[], $5::timestamptz[]) AS g(resolution, start, stop)
  CROSS JOIN wanted w
  JOIN telemetry_rollups r
    ON r.resolution = g.resolution AND r.series_id = w.series_id AND r.bucket >= g.start AND r.bucket < g.stop`;

/** Raw events of the wanted series in a stretch ($6, $7); of their sources ($8) unless those are too many. */
const RAW = `
  unnest($6::timestamptz[], $7::timestamptz[]) AS g(start, stop)
  CROSS JOIN LATERAL (
    SELECT series_id, ts, value FROM telemetry_events
    WHERE ts >= g.start AND ts < g.stop AND ($8::text[] IS NULL OR source = ANY($8::text[])) AND value IS NOT NULL
  ) e
  JOIN wanted w ON w.series_id = e.series_id`;

export interface Totals {
  grp: number;
  at: Date;
  count: number;
  sum: number;
  min: number;
  max: number;
  last: number;
}

/** Sums of each group and interval, in their order. SQL: aggregates of rollups and raw events together. */
export function totalsOf(tx: Tx, parts: MetricParts): Promise<Totals[]> {
  return tx.query(
    `WITH ${WANTED}, parts AS (
       SELECT w.grp, r.bucket AS at, r.count, r.sum, r.min, r.max,
              ARRAY[extract(epoch FROM r.last_at)::float8, r.last] AS latest
       FROM ${ROLLED}
       UNION ALL
       SELECT w.grp, e.ts, 1, e.value, e.value, e.value, ARRAY[extract(epoch FROM e.ts)::float8, e.value] FROM ${RAW}
     )
     SELECT grp, date_bin($9 * interval '1 second', at, 'epoch') AS at, sum(count)::float8 AS count, sum(sum) AS sum,
            min(min) AS min, max(max) AS max, (max(latest))[2] AS last
     FROM parts GROUP BY 1, 2 ORDER BY 1, 2`,
    paramsOf(parts),
  );
}

export interface Bin {
  grp: number;
  at: Date;
  bin: number;
  count: number;
}

/** Histograms of each group and interval, in their order. SQL: as above. */
export function binsOf(tx: Tx, parts: MetricParts): Promise<Bin[]> {
  return tx.query(
    `WITH ${WANTED}, parts AS (
       SELECT w.grp, r.bucket AS at, b.bin, b.n
       FROM ${ROLLED} CROSS JOIN LATERAL unnest(r.bins, r.bin_counts) AS b(bin, n)
       UNION ALL
       SELECT w.grp, e.ts, telemetry_bin(e.value), 1 FROM ${RAW}
     )
     SELECT grp, date_bin($9 * interval '1 second', at, 'epoch') AS at, bin, sum(n)::float8 AS count
     FROM parts GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`,
    paramsOf(parts),
  );
}

function paramsOf({ series, groups, segments, intervalSeconds }: MetricParts): unknown[] {
  const rolled = segments.filter((s) => s.resolution !== 0);
  const raw = segments.filter((s) => s.resolution === 0);
  const times = (list: Segment[], end: 'from' | 'to'): string[] => list.map((s) => new Date(s[end]).toISOString());
  const sources = [...new Set(series.map(({ source }) => source))];
  return [
    series.map(({ id }) => id),
    groups,
    rolled.map((s) => s.resolution),
    times(rolled, 'from'),
    times(rolled, 'to'),
    times(raw, 'from'),
    times(raw, 'to'),
    sources.length > MANY_SOURCES ? null : sources,
    intervalSeconds,
  ];
}
