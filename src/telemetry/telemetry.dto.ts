import { ApiHideProperty, ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IsObject, IsOptional, IsString, Length, MaxLength } from 'class-validator';
import { PageQueryDto, PaginationDto, WarningDto } from '../platform/http/index.js';

const EVENT_ID = '550e8400-e29b-41d4-a716-446655440000';
const TIMESTAMP = '2025-11-03T01:54:00.000Z';
const DATA = {
  metric_name: 'cpu_usage',
  value: 45.2,
  unit: 'percent',
  tags: { host: 'server-01', environment: 'production' },
};
const METADATA = { version: '1.0.0', schema: 'metric_v1' };

/** The ingest body as documented; it is checked by the compiled validator in telemetry-event.ts. */
export class SubmitEventDto {
  @ApiPropertyOptional({
    format: 'uuid',
    example: EVENT_ID,
    description: 'Chosen by the sender so that a resend with the same timestamp is recognised; needs `timestamp`.',
  })
  event_id?: string;

  @ApiProperty({ pattern: '^[A-Za-z0-9._:-]{1,100}$', example: 'system.metric' }) event_type!: string;

  @ApiPropertyOptional({
    minLength: 1,
    maxLength: 100,
    example: 'agent_001',
    description: 'Who it is about; the name of the calling agent or key when left out.',
  })
  source?: string;

  @ApiPropertyOptional({
    format: 'date-time',
    example: TIMESTAMP,
    description:
      'ISO 8601 with a time zone, from 1970 on; the time of receipt when left out. Events of before the retention are taken as well: ' +
      'they are kept as long, counted from their receipt.',
  })
  timestamp?: string;

  @ApiProperty({
    type: Object,
    additionalProperties: true,
    example: DATA,
    description:
      'At most 64 KB. With `metric_name` (up to 200 characters) and a number as `value` the event is a point of a series; ' +
      '`unit` up to 50 characters, `tags` up to 20 strings with 2000 characters in all. Any other keys are kept as they are.',
  })
  data!: Record<string, unknown>;

  @ApiPropertyOptional({ type: Object, additionalProperties: true, example: METADATA })
  metadata?: Record<string, unknown>;
}

export class SubmitBatchDto {
  @ApiProperty({ type: [SubmitEventDto], minItems: 1, maxItems: 1000 }) events!: SubmitEventDto[];
}

export class AcceptedEventDto {
  @ApiProperty({ format: 'uuid', example: EVENT_ID }) event_id!: string;
  @ApiProperty({ example: 'accepted' }) status!: string;
  @ApiProperty({ format: 'date-time', example: '2025-11-03T01:54:00.123Z', description: 'Time of receipt.' })
  timestamp!: string;
  @ApiPropertyOptional({
    type: [WarningDto],
    description: 'Of a `system.metric` that is stored, but is not a point of a series: why not.',
  })
  warnings?: WarningDto[];
}

export class BatchErrorDto {
  @ApiProperty({ type: 'integer', minimum: 0, example: 3, description: 'Position in `events`, from 0.' })
  index!: number;
  @ApiProperty({ example: 'timestamp' }) field!: string;
  @ApiProperty({ example: 'must be an ISO 8601 date and time with a time zone' }) issue!: string;
  @ApiPropertyOptional({ example: 'an ISO 8601 date and time with a time zone' }) expected?: string;
}

export class BatchDto {
  @ApiProperty({ example: `batch_${EVENT_ID}` }) batch_id!: string;
  @ApiProperty({
    enum: ['processing', 'completed'],
    example: 'processing',
    description:
      'In the answer to the batch `processing`: its events are stored, alerts and series follow. Looked up, `completed`.',
  })
  status!: string;
  @ApiProperty({ type: 'integer', minimum: 0, example: 999, description: 'Stored now or before.' })
  accepted_count!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 1 }) rejected_count!: number;
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    example: 0,
    description: 'Those of the accepted that were stored before.',
  })
  duplicate_count!: number;
  @ApiProperty({ type: [BatchErrorDto] }) errors!: BatchErrorDto[];
  @ApiPropertyOptional({
    type: [WarningDto],
    description:
      'Only in the answer to the batch, the first hundred: which `system.metric` are not points of a series.',
  })
  warnings?: WarningDto[];
  @ApiProperty({ format: 'date-time', example: TIMESTAMP }) created_at!: string;
}

export class TelemetryEventDto {
  @ApiProperty({ format: 'uuid', example: EVENT_ID }) event_id!: string;
  @ApiProperty({ example: 'system.metric' }) event_type!: string;
  @ApiProperty({ example: 'agent_001' }) source!: string;
  @ApiProperty({ format: 'date-time', example: TIMESTAMP }) timestamp!: string;
  @ApiProperty({ format: 'date-time', example: TIMESTAMP }) received_at!: string;
  @ApiProperty({ type: Object, additionalProperties: true, example: DATA }) data!: Record<string, unknown>;
  @ApiProperty({ type: Object, additionalProperties: true, nullable: true, example: METADATA })
  metadata!: Record<string, unknown> | null;
}

export class TelemetryEventListDto {
  @ApiProperty({ type: [TelemetryEventDto] }) events!: TelemetryEventDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}

/** Filters shared by event lists and metric queries. */
class TagFilterDto extends PageQueryDto {
  /** `tag.<name>=<value>` parameters, collected by {@link TagFilters}. */
  @ApiHideProperty() @IsOptional() @IsObject() tags?: Record<string, string>;
}

export class ListEventsDto extends TagFilterDto {
  @ApiPropertyOptional({ example: 'system.metric' }) @IsOptional() @IsString() @MaxLength(100) event_type?: string;
  @ApiPropertyOptional({ example: 'agent_001' }) @IsOptional() @IsString() @MaxLength(100) source?: string;
  @ApiPropertyOptional({ example: 'cpu_usage' }) @IsOptional() @IsString() @Length(1, 200) metric_name?: string;

  @ApiPropertyOptional({ format: 'date-time', example: '2025-11-03T00:00:00Z', description: 'Oldest, inclusive.' })
  @IsOptional()
  @IsString()
  from?: string;

  @ApiPropertyOptional({ format: 'date-time', example: '2025-11-04T00:00:00Z', description: 'Newest, inclusive.' })
  @IsOptional()
  @IsString()
  to?: string;
}
