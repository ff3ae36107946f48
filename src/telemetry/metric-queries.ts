import { Injectable } from '@nestjs/common';
import type { Actor } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { ownSource, queryIssue, rangeOf } from './event-queries.js';
import { percentileOfBins } from './histogram.js';
import type { Aggregation, MetricSeriesDto, PointDto, QueryMetricsDto } from './metrics.dto.js';
import { bucketOf, RESOLUTIONS, type Resolution } from './resolutions.js';
import { Rollups } from './rollups.js';
import { type DirtyBuckets, type Segment, segmentsOf } from './segments.js';

const MAX_POINTS = 10_000;
const MAX_SERIES = 10_000;
const DEFAULT_POINTS = 300;
const DEFAULT_RANGE_MS = 3_600_000;
const DEFAULT_INTERVALS = ['1m', '5m', '15m', '1h', '6h', '1d', '7d', '30d'];
/** Past this many sources the time index finds raw events faster than theirs. */
const MANY_SOURCES = 100;

interface CatalogRow {
  id: string;
  source: string;
  unit: string | null;
  label: string | null;
}

interface Query {
  catalog: CatalogRow[];
  /** Group of each row of the catalogue. */
  groups: number[];
  segments: Segment[];
  intervalSeconds: number;
}

interface Totals {
  grp: number;
  at: Date;
  count: number;
  sum: number;
  min: number;
  max: number;
  last: number;
}

/** Reads a stretch of raw events ($6, $7) of the wanted series; of their sources ($8) unless those are too many. */
const RAW = `
  unnest($6::timestamptz[], $7::timestamptz[]) AS g(start, stop)
  CROSS JOIN LATERAL (
    SELECT series_id, ts, value FROM telemetry_events
    WHERE ts >= g.start AND ts < g.stop AND ($8::text[] IS NULL OR source = ANY($8::text[])) AND value IS NOT NULL
  ) e
  JOIN wanted w ON w.series_id = e.series_id`;

const WANTED = `wanted AS (SELECT * FROM unnest($1::bigint[], $2::int[]) AS w(series_id, grp))`;

const ROLLED = `
  unnest($3::int[], $4::timestamptz[], $5::timestamptz[]) AS g(resolution, start, stop)
  CROSS JOIN wanted w
  JOIN telemetry_rollups r
    ON r.resolution = g.resolution AND r.series_id = w.series_id AND r.bucket >= g.start AND r.bucket < g.stop`;

const TOTALS = `
  WITH ${WANTED}, parts AS (
    SELECT w.grp, r.bucket AS at, r.count, r.sum, r.min, r.max,
           ARRAY[extract(epoch FROM r.last_at)::float8, r.last] AS latest
    FROM ${ROLLED}
    UNION ALL
    SELECT w.grp, e.ts, 1, e.value, e.value, e.value, ARRAY[extract(epoch FROM e.ts)::float8, e.value] FROM ${RAW}
  )
  SELECT grp, date_bin($9 * interval '1 second', at, 'epoch') AS at, sum(count)::float8 AS count, sum(sum) AS sum,
         min(min) AS min, max(max) AS max, (max(latest))[2] AS last
  FROM parts GROUP BY 1, 2 ORDER BY 1, 2`;

const BINS = `
  WITH ${WANTED}, parts AS (
    SELECT w.grp, r.bucket AS at, b.bin, b.n
    FROM ${ROLLED} CROSS JOIN LATERAL unnest(r.bins, r.bin_counts) AS b(bin, n)
    UNION ALL
    SELECT w.grp, e.ts, telemetry_bin(e.value), 1 FROM ${RAW}
  )
  SELECT grp, date_bin($9 * interval '1 second', at, 'epoch') AS at, bin, sum(n)::float8 AS count
  FROM parts GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`;

/** Reads metrics as series of points from rollups and, for what is not rolled up yet, from raw events (row TEL-09). */
@Injectable()
export class MetricQueries {
  constructor(
    private readonly db: Database,
    private readonly rollups: Rollups,
  ) {}

  /** @throws AppError `validation` when the range and the interval do not fit each other or what is kept */
  async query(actor: Actor, query: QueryMetricsDto, now = Date.now()): Promise<MetricSeriesDto> {
    const given = rangeOf(query);
    const end = given.to ?? Math.max(now, given.from ?? now);
    const start = given.from ?? end - DEFAULT_RANGE_MS;
    const interval = query.interval ?? this.defaultInterval(start, end, now);
    const seconds = secondsOf(interval);
    const from = bucketOf(start, seconds);
    const to = bucketOf(end, seconds) + seconds * 1000;
    const points = (to - from) / (seconds * 1000);
    if (points > MAX_POINTS) throw queryIssue('interval', `gives ${points} points; at most ${MAX_POINTS} are given`);
    const resolution = this.resolutionFor(seconds, from, now);

    const [catalog, dirty] = await Promise.all([this.catalog(actor, query), this.dirty(from, to)]);
    const labels = [...new Set(catalog.map((series) => series.label))];
    if (labels.length * points > MAX_POINTS * 5) throw queryIssue('group_by', 'gives too many points; ask for fewer');
    const index = new Map(labels.map((label, i) => [label, i]));
    const series = await this.read(query.agg ?? 'avg', labels.length, {
      catalog,
      groups: catalog.map(({ label }) => index.get(label) as number),
      segments: segmentsOf(resolution, from, to, dirty, (r) => this.rollups.keptSince(r, now)),
      intervalSeconds: seconds,
    });
    const units = new Set(catalog.map((row) => row.unit));
    return {
      metric_name: query.metric_name,
      unit: units.size === 1 ? ([...units][0] ?? null) : null,
      agg: query.agg ?? 'avg',
      interval,
      from: new Date(from).toISOString(),
      to: new Date(to).toISOString(),
      series: series
        .map((list, i) => ({ group: query.group_by ? { [query.group_by]: labels[i] } : {}, points: list }))
        .filter((s) => s.points.length > 0),
    };
  }

  private defaultInterval(start: number, end: number, now: number): string {
    const fits = (interval: string): boolean => {
      const seconds = secondsOf(interval);
      return (end - start) / (seconds * 1000) <= DEFAULT_POINTS && this.coarsest(seconds, start, now) !== undefined;
    };
    return DEFAULT_INTERVALS.find(fits) ?? '30d';
  }

  /** The coarsest rollups that make up the interval and are kept for the whole range. */
  private resolutionFor(seconds: number, from: number, now: number): Resolution {
    const resolution = this.coarsest(seconds, from, now);
    if (resolution !== undefined) return resolution;
    const kept = RESOLUTIONS.find((r) => this.rollups.keptSince(r, now) <= from);
    throw kept === undefined
      ? queryIssue('from', 'is older than what is kept')
      : queryIssue('interval', `is finer than what is kept of that time: ask for multiples of ${kept / 60}m`);
  }

  private coarsest(seconds: number, from: number, now: number): Resolution | undefined {
    // Buckets that began before the limit are whole for one day more (see `storedDays`).
    const whole = (r: Resolution): boolean => this.rollups.keptSince(r, now) - r * 1000 <= from;
    return [...RESOLUTIONS].reverse().find((r) => seconds % r === 0 && whole(r));
  }

  private async catalog(actor: Actor, query: QueryMetricsDto): Promise<CatalogRow[]> {
    const { group_by: groupBy } = query;
    const label = groupBy === undefined ? 'NULL' : groupBy === 'source' ? 'source' : 'tags->>$5';
    const params = [query.metric_name, query.source ?? null, ownSource(actor), JSON.stringify(query.tags ?? {})];
    // Sorted only once they are known to be few.
    const rows = await this.db.query<CatalogRow>(
      `SELECT * FROM (
         SELECT id, source, unit, ${label} AS label FROM telemetry_series
         WHERE metric_name = $1 AND ($2::text IS NULL OR source = $2) AND ($3::text IS NULL OR source = $3)
           AND tags @> $4::jsonb
         LIMIT ${MAX_SERIES + 1}
       ) AS found
       ORDER BY label, id`,
      label.includes('$5') ? [...params, groupBy] : params,
    );
    if (rows.length > MAX_SERIES) throw queryIssue('metric_name', `has more than ${MAX_SERIES} series; filter by tags`);
    return rows;
  }

  private async dirty(from: number, to: number): Promise<DirtyBuckets> {
    const rows = await this.db.query<{ resolution: Resolution; at: number }>(
      `SELECT DISTINCT resolution, (extract(epoch FROM bucket) * 1000)::float8 AS at FROM telemetry_dirty
       WHERE bucket < to_timestamp($2 / 1000.0) AND bucket + resolution * interval '1 second' > to_timestamp($1 / 1000.0)`,
      [from, to],
    );
    const dirty = new Map<Resolution, number[]>();
    for (const { resolution, at } of rows) dirty.set(resolution, [...(dirty.get(resolution) ?? []), at]);
    return dirty;
  }

  /** Points of each group, in the order of the groups. */
  private async read(agg: Aggregation, groups: number, query: Query): Promise<PointDto[][]> {
    const points: PointDto[][] = Array.from({ length: groups }, () => []);
    if (groups === 0) return points;
    if (!agg.startsWith('p')) {
      for (const row of await this.db.query<Totals>(TOTALS, paramsOf(query))) {
        points[row.grp].push({ timestamp: row.at.toISOString(), value: valueOf(agg, row) });
      }
      return points;
    }
    type Bin = { grp: number; at: Date; bin: number; count: number };
    let open: Bin[] = [];
    const close = (): void => {
      if (open.length === 0) return;
      const value = percentileOfBins(open, Number(agg.slice(1)));
      points[open[0].grp].push({ timestamp: open[0].at.toISOString(), value });
      open = [];
    };
    for (const row of await this.db.query<Bin>(BINS, paramsOf(query))) {
      if (open.length > 0 && (open[0].grp !== row.grp || open[0].at.getTime() !== row.at.getTime())) close();
      open.push(row);
    }
    close();
    return points;
  }
}

function paramsOf({ catalog, groups, segments, intervalSeconds }: Query): unknown[] {
  const rolled = segments.filter((s) => s.resolution !== 0);
  const raw = segments.filter((s) => s.resolution === 0);
  const times = (list: Segment[], end: 'from' | 'to'): string[] => list.map((s) => new Date(s[end]).toISOString());
  const sources = [...new Set(catalog.map((series) => series.source))];
  return [
    catalog.map((series) => series.id),
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

function valueOf(agg: Aggregation, row: Totals): number {
  return agg === 'avg' ? row.sum / row.count : row[agg as 'min' | 'max' | 'sum' | 'count' | 'last'];
}

function secondsOf(interval: string): number {
  const unit = { m: 60, h: 3600, d: 86_400 }[interval.at(-1) as 'm' | 'h' | 'd'];
  return Number(interval.slice(0, -1)) * unit;
}
