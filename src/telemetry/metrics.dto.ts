import { ApiHideProperty, ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IsIn, IsObject, IsOptional, IsString, Length, Matches } from 'class-validator';
import { PageQueryDto, PaginationDto } from '../platform/http/index.js';

const AGGREGATIONS = ['avg', 'min', 'max', 'sum', 'count', 'last', 'p50', 'p90', 'p95', 'p99'] as const;
export type Aggregation = (typeof AGGREGATIONS)[number];

export class QueryMetricsDto {
  @ApiProperty({ example: 'cpu_usage' }) @IsString() @Length(1, 200) metric_name!: string;
  @ApiPropertyOptional({ example: 'agent_001' }) @IsOptional() @IsString() @Length(1, 100) source?: string;

  @ApiPropertyOptional({
    enum: AGGREGATIONS,
    default: 'avg',
    example: 'p95',
    description: 'Percentiles are within 2 %.',
  })
  @IsOptional()
  @IsIn(AGGREGATIONS)
  agg?: Aggregation;

  @ApiPropertyOptional({
    example: '1d',
    description: 'Width of a point: a number of minutes (m), hours (h) or days (d); about 300 points when left out.',
  })
  @IsOptional()
  @Matches(/^[1-9]\d{0,3}[mhd]$/, { message: 'must be a number of minutes, hours or days such as 5m, 1h or 1d' })
  interval?: string;

  @ApiPropertyOptional({
    example: 'host',
    description: '`source` or the name of a tag: one series for each of its values.',
  })
  @IsOptional()
  @IsString()
  @Length(1, 200)
  group_by?: string;

  @ApiPropertyOptional({
    format: 'date-time',
    example: '2025-11-03T00:00:00Z',
    description: 'One hour before `to` when left out; moved to the start of its interval.',
  })
  @IsOptional()
  @IsString()
  from?: string;

  @ApiPropertyOptional({
    format: 'date-time',
    example: '2025-11-04T00:00:00Z',
    description: 'Now when left out; moved to the end of its interval.',
  })
  @IsOptional()
  @IsString()
  to?: string;

  /** `tag.<name>=<value>` parameters, collected by the interceptor `TagFilters`. */
  @ApiHideProperty() @IsOptional() @IsObject() tags?: Record<string, string>;
}

export class PointDto {
  @ApiProperty({ format: 'date-time', example: '2025-11-03T01:50:00.000Z', description: 'Start of the interval.' })
  timestamp!: string;
  @ApiProperty({ example: 45.2 }) value!: number;
}

export class SeriesDto {
  @ApiProperty({
    type: Object,
    additionalProperties: { type: 'string', nullable: true },
    example: { host: 'server-01' },
  })
  group!: Record<string, string | null>;
  @ApiProperty({ type: [PointDto] }) points!: PointDto[];
}

export class MetricSeriesDto {
  @ApiProperty({ example: 'cpu_usage' }) metric_name!: string;
  @ApiProperty({ type: String, nullable: true, example: 'percent', description: 'Null when senders disagree.' })
  unit!: string | null;
  @ApiProperty({ enum: AGGREGATIONS, example: 'p95' }) agg!: Aggregation;
  @ApiProperty({ example: '5m' }) interval!: string;
  @ApiProperty({ format: 'date-time', example: '2025-11-03T00:00:00.000Z' }) from!: string;
  @ApiProperty({ format: 'date-time', example: '2025-11-04T00:00:00.000Z' }) to!: string;
  @ApiProperty({ type: [SeriesDto], description: 'Intervals without data have no point.' }) series!: SeriesDto[];
}

export class ListMetricsDto extends PageQueryDto {
  @ApiPropertyOptional({ example: 'agent_001' }) @IsOptional() @IsString() @Length(1, 100) source?: string;
}

export class ListSourcesDto extends PageQueryDto {
  @ApiPropertyOptional({ example: 'cpu_usage' }) @IsOptional() @IsString() @Length(1, 200) metric_name?: string;
}

export class MetricDto {
  @ApiProperty({ example: 'cpu_usage' }) metric_name!: string;
  @ApiProperty({ type: String, nullable: true, example: 'percent' }) unit!: string | null;
  @ApiProperty({ type: 'integer', minimum: 0, example: 12, description: 'Sources that send it.' }) sources!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 48, description: 'Different sets of source and tags.' })
  series!: number;
  @ApiProperty({ format: 'date-time', example: '2025-11-01T00:00:00.000Z' }) first_seen!: string;
  @ApiProperty({ format: 'date-time', example: '2025-11-03T01:54:00.000Z' }) last_seen!: string;
}

export class MetricPageDto {
  @ApiProperty({ type: [MetricDto] }) metrics!: MetricDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}

export class SourceDto {
  @ApiProperty({ example: 'agent_001' }) source!: string;
  @ApiProperty({ type: 'integer', minimum: 0, example: 9, description: 'Different metrics it sends.' })
  metrics!: number;
  @ApiProperty({ format: 'date-time', example: '2025-11-01T00:00:00.000Z' }) first_seen!: string;
  @ApiProperty({ format: 'date-time', example: '2025-11-03T01:54:00.000Z' }) last_seen!: string;
}

export class SourcePageDto {
  @ApiProperty({ type: [SourceDto] }) sources!: SourceDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}
