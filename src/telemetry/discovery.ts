import { Injectable } from '@nestjs/common';
import { type Cache, Caches } from '../platform/cache/index.js';
import type { Actor } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { nameAfter, type PageQueryDto, paginationOf, type PaginationDto, resolvePage } from '../platform/http/index.js';
import { ownSource } from './event-queries.js';
import {
  listMetrics,
  listSources,
  type NamesPage,
  type Seen,
  type SeenMetric,
  type SeenSource,
} from './telemetry.queries.js';
import type { ListMetricsDto, ListSourcesDto, MetricPageDto, SourcePageDto } from './metrics.dto.js';

/** As old as an answer may be: it is an aggregate of all series, and screens ask for it again and again. */
const KEEP_MS = 2000;
const KEPT = 500;
const SIZES = { default: 100, max: 1000 };

/** What there is to ask for, out of the catalogue of series; `last_seen` follows the events by a few seconds. */
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
    const find = (page: NamesPage): Promise<SeenMetric[]> =>
      listMetrics(this.db.manager, { source: query.source ?? null, own }, page);
    const { rows, pagination } = await pageOfNames(query, find);
    const metrics = rows.map(({ name, unit, sources, series, ...seen }) => {
      return { metric_name: name, unit, sources, series, ...times(seen) };
    });
    return { metrics, pagination };
  }

  private async readSources(own: string | null, query: ListSourcesDto): Promise<SourcePageDto> {
    const find = (page: NamesPage): Promise<SeenSource[]> =>
      listSources(this.db.manager, { metric: query.metric_name ?? null, own }, page);
    const { rows, pagination } = await pageOfNames(query, find);
    const sources = rows.map(({ name, metrics, ...seen }) => ({ source: name, metrics, ...times(seen) }));
    return { sources, pagination };
  }
}

async function pageOfNames<Row extends Seen>(
  query: PageQueryDto,
  find: (page: NamesPage) => Promise<Row[]>,
): Promise<{ rows: Row[]; pagination: PaginationDto }> {
  const page = resolvePage(query, SIZES);
  const found = await find({ after: nameAfter(page), limit: page.limit + 1, offset: page.offset });
  const rows = found.slice(0, page.limit);
  const pagination = paginationOf(page, {
    total: found.at(0)?.total ?? page.offset,
    exact: found.length > 0 || page.offset === 0,
    hasMore: found.length > page.limit,
    nextKeys: rows.length > 0 ? [(rows.at(-1) as Row).name] : undefined,
  });
  return { rows, pagination };
}

function times({ firstSeen, lastSeen }: Pick<Seen, 'firstSeen' | 'lastSeen'>): {
  first_seen: string;
  last_seen: string;
} {
  return { first_seen: firstSeen.toISOString(), last_seen: lastSeen.toISOString() };
}
