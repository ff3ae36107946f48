import { Injectable } from '@nestjs/common';
import type { Actor } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { ownSource, queryIssue, rangeOf } from './event-queries.js';
import { percentileOfBins } from './histogram.js';
import type { Aggregation, MetricSeriesDto, PointDto, QueryMetricsDto } from './metrics.dto.js';
import {
  type Bin,
  binsOf,
  dirtyBuckets,
  type LabelledSeries,
  labelledSeries,
  type MetricParts,
  type Totals,
  totalsOf,
} from './metrics.queries.js';
import { bucketOf, RESOLUTIONS, type Resolution } from './resolutions.js';
import { Rollups } from './rollups.js';
import { type DirtyBuckets, segmentsOf } from './segments.js';

const MAX_POINTS = 10_000;
const MAX_SERIES = 10_000;
const DEFAULT_POINTS = 300;
const DEFAULT_RANGE_MS = 3_600_000;
const DEFAULT_INTERVALS = ['1m', '5m', '15m', '1h', '6h', '1d', '7d', '30d'];

/** Reads metrics as series of points from rollups and, for what is not rolled up yet, from raw events. */
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
      series: catalog,
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

  private async catalog(actor: Actor, query: QueryMetricsDto): Promise<LabelledSeries[]> {
    const rows = await labelledSeries(this.db.manager, query, ownSource(actor), MAX_SERIES + 1);
    if (rows.length > MAX_SERIES) throw queryIssue('metric_name', `has more than ${MAX_SERIES} series; filter by tags`);
    return rows;
  }

  private async dirty(from: number, to: number): Promise<DirtyBuckets> {
    const dirty = new Map<Resolution, number[]>();
    for (const { resolution, bucket } of await dirtyBuckets(this.db.manager, from, to)) {
      dirty.set(resolution, [...(dirty.get(resolution) ?? []), bucket.getTime()]);
    }
    return dirty;
  }

  /** Points of each group, in the order of the groups. */
  private async read(agg: Aggregation, groups: number, parts: MetricParts): Promise<PointDto[][]> {
    const points: PointDto[][] = Array.from({ length: groups }, () => []);
    if (groups === 0) return points;
    if (!agg.startsWith('p')) {
      for (const row of await totalsOf(this.db.manager, parts)) {
        points[row.grp].push({ timestamp: row.at.toISOString(), value: valueOf(agg, row) });
      }
      return points;
    }
    let open: Bin[] = [];
    const close = (): void => {
      if (open.length === 0) return;
      const value = percentileOfBins(open, Number(agg.slice(1)));
      points[open[0].grp].push({ timestamp: open[0].at.toISOString(), value });
      open = [];
    };
    for (const row of await binsOf(this.db.manager, parts)) {
      if (open.length > 0 && (open[0].grp !== row.grp || open[0].at.getTime() !== row.at.getTime())) close();
      open.push(row);
    }
    close();
    return points;
  }
}

function valueOf(agg: Aggregation, row: Totals): number {
  return agg === 'avg' ? row.sum / row.count : row[agg as 'min' | 'max' | 'sum' | 'count' | 'last'];
}

function secondsOf(interval: string): number {
  const unit = { m: 60, h: 3600, d: 86_400 }[interval.at(-1) as 'm' | 'h' | 'd'];
  return Number(interval.slice(0, -1)) * unit;
}
