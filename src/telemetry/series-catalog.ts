import { createHash } from 'node:crypto';
import { type BeforeApplicationShutdown, Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import { TelemetrySettings } from './telemetry.settings.js';
import { Database } from '../platform/database/index.js';
import { Logger, Metrics } from '../platform/observability/index.js';
import { SeriesRoom } from './series-room.js';
import { findSeries, insertSeries, type NewSeries, touchSeries } from './telemetry.queries.js';
import type { Metric, Series, TelemetryRow } from './telemetry-event.js';
import type { TelemetrySeries } from './telemetry-series.entity.js';

/** A series without events for long enough is deleted; what is remembered of it must not outlive that. */
const REMEMBERED_MS = 3_600_000;
/** A series the limit leaves no room for is looked up again after this long. */
const OVER_LIMIT_MS = 30_000;
const TOUCH_EVERY_MS = 5000;
/** Rows of the catalogue brought up to date per tick, so that many series cost no more than a few. */
const TOUCH_AT_ONCE = 2000;
/** Memory for what is remembered: enough for the most series with names and tags of some 100 characters, and at least this. */
const MIN_CACHE_BYTES = 64 * 1024 * 1024;
const CACHE_BYTES_PER_SERIES = 640;
const ENTRY_BYTES = 400;

interface Remembered {
  series: Series | null;
  /** Those of the first event, which the rows of all others share, so that their own can be forgotten. */
  eventType: string;
  source: string;
  name: string;
  tags: Metric['tags'];
  /** `performance.now()` from which on a look-up is worth it again. */
  retryAt: number;
}

/**
 * Which series there are: one per source, metric and set of tags, and one per source and type for the events that carry no number.
 * Bounded, in all and for each source (see {@link SeriesRoom}); events past it are stored, but belong to no series and no rollup.
 */
@Injectable()
export class SeriesCatalog implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly cache: LRUCache<string, Remembered>;
  private forgetAt = performance.now() + REMEMBERED_MS;
  /** Series whose row is behind, the one waiting longest first. */
  private readonly behind = new Set<Series>();
  private readonly overLimit;
  private readonly room: SeriesRoom;
  private timer: NodeJS.Timeout | undefined;
  private touching: Promise<void> | undefined;

  constructor(
    private readonly db: Database,
    settings: TelemetrySettings,
    private readonly logger: Logger,
    metrics: Metrics,
  ) {
    this.room = new SeriesRoom(db, settings);
    this.cache = new LRUCache({
      max: settings.maxSeries * 2,
      maxSize: Math.max(MIN_CACHE_BYTES, settings.maxSeries * CACHE_BYTES_PER_SERIES),
      // The key, and once more the texts that it is made of.
      sizeCalculation: (_, key) => 2 * key.length + ENTRY_BYTES,
    });
    metrics.sharedGauge(
      'nexus_telemetry_series',
      'Telemetry series in the catalogue, as last counted',
      [],
      function () {
        this.set(count());
      },
    );
    const count = (): number => this.room.count;
    this.overLimit = metrics.counter(
      'nexus_telemetry_series_over_limit_total',
      'Series looked up in vain because the limit of all series or of those of their source is reached',
    );
  }

  onApplicationBootstrap(): void {
    this.timer = setInterval(() => void this.touch(TOUCH_AT_ONCE), TOUCH_EVERY_MS);
    this.timer.unref();
  }

  async beforeApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    await this.touching;
    await this.touch(Infinity);
  }

  /** Gives each row its series; new ones are added to the catalogue. Nothing to wait for when all are known. */
  resolve(rows: readonly TelemetryRow[]): Promise<void> | undefined {
    const now = performance.now();
    // All at once: asking each entry for its age at every event costs more than the few look-ups this causes.
    if (now > this.forgetAt) {
      this.cache.clear();
      this.forgetAt = now + REMEMBERED_MS;
    }
    const missing = new Map<string, TelemetryRow[]>();
    for (const row of rows) {
      const key = cacheKey(row);
      const cached = this.cache.get(key);
      if (cached && now < cached.retryAt) {
        row.series = cached.series;
        row.source = cached.source;
        if (row.eventType === cached.eventType) row.eventType = cached.eventType;
        if (row.metric) {
          row.metric.name = cached.name;
          row.metric.tags = cached.tags;
        }
        continue;
      }
      const waiting = missing.get(key);
      if (waiting) waiting.push(row);
      else missing.set(key, [row]);
    }
    return missing.size > 0 ? this.load(missing) : undefined;
  }

  /** Notes that these rows are stored. */
  seen(rows: readonly TelemetryRow[]): void {
    for (const row of rows) {
      const { series, ts } = row;
      // Old events are noted as well: their series must stay while it receives them.
      if (!series || (ts <= series.lastSeen && !row.isOld) || row.outcome === 'refused') continue;
      if (ts > series.lastSeen) series.lastSeen = ts;
      this.behind.add(series);
    }
  }

  private async load(missing: Map<string, TelemetryRow[]>): Promise<void> {
    const byKey = new Map<string, TelemetryRow[]>();
    for (const rows of missing.values()) {
      // The same tags in another order are another cache key but the same series.
      const key = seriesKey(rows[0]);
      byKey.set(key, [...(byKey.get(key) ?? []), ...rows]);
    }
    // In one order everywhere: two processes that add the same series must not wait for each other in a circle.
    const keys = [...byKey.keys()].sort();
    const found = new Map<string, Series>();
    const take = (series: Pick<TelemetrySeries, 'key' | 'id' | 'lastSeen'>[]): void => {
      for (const { key, id, lastSeen } of series) found.set(key, { id, lastSeen: lastSeen.getTime() });
    };
    const { bulk } = this.db;
    take(await findSeries(bulk, keys));
    const fresh = keys.filter((key) => !found.has(key));
    if (fresh.length > 0) {
      const wanted = fresh.map((key) => ({ key, source: byKey.get(key)![0].source }));
      const admitted = await this.room.admit(wanted);
      take(
        await insertSeries(
          bulk,
          admitted.map(({ key }) => newSeries(key, byKey.get(key)![0])),
        ),
      );
      take(
        await findSeries(
          bulk,
          fresh.filter((key) => !found.has(key)),
        ),
      );
    }
    for (const [key, rows] of byKey) {
      const series = found.get(key) ?? null;
      if (!series) this.overLimit.inc();
      const retryAt = series ? Infinity : performance.now() + OVER_LIMIT_MS;
      for (const row of rows) {
        const { eventType, source, metric } = row;
        row.series = series;
        const remembered = { series, retryAt, eventType, source, name: metric?.name ?? '', tags: metric?.tags ?? {} };
        this.cache.set(cacheKey(row), remembered);
      }
    }
  }

  private touch(limit: number): Promise<void> {
    this.touching ??= this.touchOnce(limit).finally(() => {
      this.touching = undefined;
    });
    return this.touching;
  }

  private async touchOnce(limit: number): Promise<void> {
    const batch = [...this.behind].slice(0, limit);
    if (batch.length === 0) return;
    const seen = batch.map((series) => series.lastSeen);
    for (const series of batch) this.behind.delete(series);
    try {
      const ids = batch.map((series) => series.id);
      await touchSeries(this.db.bulk, ids, seen);
    } catch (error) {
      for (const series of batch) this.behind.add(series);
      this.logger.warn({ err: (error as Error).message }, 'Last-seen times of telemetry series not written');
    }
  }
}

function newSeries(key: string, { source, metric, eventType, ts }: TelemetryRow): NewSeries {
  const { name: metricName = '', tags = {}, unit = null } = metric ?? {};
  return { key, source, metricName, tags, unit, eventType, firstSeen: ts };
}

/** Cheap and unambiguous (NUL never gets through the body guard); depends on the order of the tags. */
function cacheKey(row: TelemetryRow): string {
  if (!row.metric) return `${row.source}\0\0${row.eventType}`;
  let key = `${row.source}\0${row.metric.name}`;
  const { tags } = row.metric;
  for (const name in tags) key += `\0${name}\0${tags[name]}`;
  return key;
}

/** Identity of a series: half of a SHA-256, in the shape of a UUID. */
function seriesKey({ source, metric, eventType }: TelemetryRow): string {
  const tags = Object.entries(metric?.tags ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  const text = JSON.stringify(metric ? [source, metric.name, tags] : [source, '', [], eventType]);
  return createHash('sha256')
    .update(text)
    .digest('hex')
    .slice(0, 32)
    .replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, '$1-$2-$3-$4-$5');
}
