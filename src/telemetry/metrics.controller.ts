import { Controller, Get, Query, UseInterceptors } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiQuery, ApiTags } from '@nestjs/swagger';
import type { Actor } from '../platform/context/index.js';
import { Allow, CurrentActor, RateLimit, Wire } from '../platform/http/index.js';
import { Discovery } from './discovery.js';
import { MetricQueries } from './metric-queries.js';
import {
  ListMetricsDto,
  ListSourcesDto,
  MetricPageDto,
  MetricSeriesDto,
  QueryMetricsDto,
  SourcePageDto,
} from './metrics.dto.js';
import { TagFilters } from './tag-filters.js';

@ApiTags('telemetry')
@Wire('raw')
@Allow('telemetry:read')
@RateLimit('telemetry')
@Controller('telemetry')
export class MetricsController {
  constructor(
    private readonly queries: MetricQueries,
    private readonly discovery: Discovery,
  ) {}

  @Get('metrics/query')
  @UseInterceptors(TagFilters)
  @ApiOperation({ summary: 'A metric as series of points', operationId: 'queryTelemetryMetrics' })
  @ApiQuery({ name: 'tag.<name>', required: false, example: 'server-01', description: 'Value of the tag `<name>`.' })
  @ApiOkResponse({ type: MetricSeriesDto })
  query(@CurrentActor() actor: Actor, @Query() query: QueryMetricsDto): Promise<MetricSeriesDto> {
    return this.queries.query(actor, query);
  }

  @Get('metrics')
  @ApiOperation({ summary: 'Metrics there are', operationId: 'listTelemetryMetrics' })
  @ApiOkResponse({ type: MetricPageDto })
  metrics(@CurrentActor() actor: Actor, @Query() query: ListMetricsDto): Promise<MetricPageDto> {
    return this.discovery.metrics(actor, query);
  }

  @Get('sources')
  @ApiOperation({ summary: 'Sources there are', operationId: 'listTelemetrySources' })
  @ApiOkResponse({ type: SourcePageDto })
  sources(@CurrentActor() actor: Actor, @Query() query: ListSourcesDto): Promise<SourcePageDto> {
    return this.discovery.sources(actor, query);
  }
}
