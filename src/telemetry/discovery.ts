import { Injectable } from '@nestjs/common';
import { type Cache, Caches } from '../platform/cache/index.js';
import type { Actor } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { nameAfter, type PageQueryDto, paginationOf, type PaginationDto, resolvePage } from '../platform/http/index.js';
import { ownSource } from './event-queries.js';
import type { ListMetricsDto, ListSourcesDto, MetricPageDto, SourcePageDto } from './metrics.dto.js';

/** As old as an answer may be: it is an aggregate of all series, and screens ask for it again and again. */
const KEEP_MS = 2000;
const KEPT = 500;
const SIZES = { default: 100, max: 1000 };

interface Seen {
  name: string;
  total: number;
  first_seen: Date;
  last_seen: Date;
}

/** What there is to ask for (row TEL-10), out of the catalogue of series; `last_seen` follows the events by a few seconds. */
@Injectable()
export class Discovery {
  private readonly metricPages: Cache<MetricPageDto>;
  private readonly sourcePages: Cache<SourcePageDto>;

  constructor(
    private readonly db: Database,
    caches: Caches,
  ) {
    this.metricPages = caches.make('telemetry.metrics', { ttlMs: KEEP_MS, max: KEPT });
    this.sourcePages = caches.make('telemetry.sources', { ttlMs: KEEP_MS, max: KEPT });
  }

  /** Metrics by name. */
  metrics(actor: Actor, query: ListMetricsDto): Promise<MetricPageDto> {
    const own = ownSource(actor);
    return this.metricPages.get(JSON.stringify([own, query]), () => this.readMetrics(own, query));
  }

  /** Sources by name. */
  sources(actor: Actor, query: ListSourcesDto): Promise<SourcePageDto> {
    const own = ownSource(actor);
    return this.sourcePages.get(JSON.stringify([own, query]), () => this.readSources(own, query));
  }

  private async readMetrics(own: string | null, query: ListMetricsDto): Promise<MetricPageDto> {
    type Row = Seen & { unit: string | null; sources: number; series: number };
    const { rows, pagination } = await this.list<Row>(
      query,
      `SELECT metric_name AS name, CASE WHEN count(DISTINCT unit) = 1 THEN min(unit) END AS unit,
              count(DISTINCT source)::int AS sources, count(*)::int AS series,
              min(first_seen) AS first_seen, max(last_seen) AS last_seen
       FROM telemetry_series
       WHERE metric_name <> '' AND ($1::text IS NULL OR source = $1) AND ($2::text IS NULL OR source = $2)
       GROUP BY metric_name`,
      [query.source ?? null, own],
    );
    const metrics = rows.map(({ name, unit, sources, series, ...seen }) => {
      return { metric_name: name, unit, sources, series, ...times(seen) };
    });
    return { metrics, pagination };
  }

  private async readSources(own: string | null, query: ListSourcesDto): Promise<SourcePageDto> {
    const { rows, pagination } = await this.list<Seen & { metrics: number }>(
      query,
      `SELECT source AS name, (count(DISTINCT metric_name) FILTER (WHERE metric_name <> ''))::int AS metrics,
              min(first_seen) AS first_seen, max(last_seen) AS last_seen
       FROM telemetry_series
       WHERE ($1::text IS NULL OR metric_name = $1) AND ($2::text IS NULL OR source = $2)
       GROUP BY source`,
      [query.metric_name ?? null, own],
    );
    const sources = rows.map(({ name, metrics, ...seen }) => ({ source: name, metrics, ...times(seen) }));
    return { sources, pagination };
  }

  private async list<Row extends Seen>(
    query: PageQueryDto,
    sql: string,
    params: unknown[],
  ): Promise<{ rows: Row[]; pagination: PaginationDto }> {
    const page = resolvePage(query, SIZES);
    const after = nameAfter(page);
    const found = await this.db.query<Row>(
      `WITH found AS MATERIALIZED (${sql})
       SELECT *, (SELECT count(*)::int FROM found) AS total FROM found
       WHERE ($3::text IS NULL OR name > $3) ORDER BY name LIMIT $4 OFFSET $5`,
      [...params, after, page.limit + 1, page.offset],
    );
    const rows = found.slice(0, page.limit);
    const pagination = paginationOf(page, {
      total: found.at(0)?.total ?? page.offset,
      exact: found.length > 0 || page.offset === 0,
      hasMore: found.length > page.limit,
      nextKeys: rows.length > 0 ? [(rows.at(-1) as Row).name] : undefined,
    });
    return { rows, pagination };
  }
}

function times({ first_seen: first, last_seen: last }: Pick<Seen, 'first_seen' | 'last_seen'>): {
  first_seen: string;
  last_seen: string;
} {
  return { first_seen: first.toISOString(), last_seen: last.toISOString() };
}
