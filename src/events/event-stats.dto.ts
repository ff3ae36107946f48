import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IsIn, IsISO8601, IsOptional, MaxLength } from 'class-validator';

const GROUPINGS = ['type', 'source', 'priority', 'hour', 'day'] as const;
export type Grouping = (typeof GROUPINGS)[number];

export class EventStatsQueryDto {
  @ApiPropertyOptional({ example: '2025-01-15T00:00:00Z', description: 'Default: a day before the end.' })
  @IsOptional()
  @IsISO8601({ strict: true })
  @MaxLength(40)
  start_time?: string;

  @ApiPropertyOptional({
    example: '2025-01-16T00:00:00Z',
    description: 'Default: now; 31 days after the start at most.',
  })
  @IsOptional()
  @IsISO8601({ strict: true })
  @MaxLength(40)
  end_time?: string;

  @ApiPropertyOptional({
    enum: GROUPINGS,
    example: 'hour',
    description:
      '`hour`, `day`: steps of the timeline; left out: hours of up to seven days, else days. `type`, `source`, `priority`: each step is ' +
      'broken down by its ten most frequent values too.',
  })
  @IsOptional()
  @IsIn(GROUPINGS)
  group_by?: Grouping;
}

class EventSummaryDto {
  @ApiProperty({ type: 'integer', minimum: 0, example: 1200 }) total_events!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 3 }) pending!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 1190 }) published!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 7 }) expired!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 12 }) event_types!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 4 }) sources!: number;
  @ApiProperty({ example: 0.83 }) events_per_minute!: number;
  @ApiProperty({ example: '2025-01-15T00:00:00.000Z' }) start_time!: string;
  @ApiProperty({ example: '2025-01-16T00:00:00.000Z' }) end_time!: string;
}

class TypeCountDto {
  @ApiProperty({ example: 'orders.created' }) event_type!: string;
  @ApiProperty({ type: 'integer', minimum: 0, example: 800 }) count!: number;
}

class SourceCountDto {
  @ApiProperty({ example: 'shop' }) source!: string;
  @ApiProperty({ type: 'integer', minimum: 0, example: 800 }) count!: number;
}

class PriorityCountDto {
  @ApiProperty({ example: 'normal' }) priority!: string;
  @ApiProperty({ type: 'integer', minimum: 0, example: 1100 }) count!: number;
}

class TimelineStepDto {
  @ApiProperty({ example: '2025-01-15T10:00:00.000Z' }) timestamp!: string;
  @ApiProperty({ type: 'integer', minimum: 0, example: 42 }) count!: number;
  @ApiPropertyOptional({
    type: 'object',
    additionalProperties: { type: 'number' },
    example: { 'orders.created': 40 },
    description: 'With `group_by` type, source or priority.',
  })
  groups?: Record<string, number>;
}

export class EventStatsDto {
  @ApiProperty({ type: EventSummaryDto }) summary!: EventSummaryDto;
  @ApiProperty({ type: [TypeCountDto], description: 'The hundred most frequent.' }) by_event_type!: TypeCountDto[];
  @ApiProperty({ type: [SourceCountDto], description: 'The hundred most frequent.' }) by_source!: SourceCountDto[];
  @ApiProperty({ type: [PriorityCountDto] }) by_priority!: PriorityCountDto[];
  @ApiProperty({ type: [TimelineStepDto], description: 'Steps without events are left out.' })
  timeline!: TimelineStepDto[];
}

class RelayHealthDto {
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    example: 0,
    description: 'Events that subscribers are not told of yet, up to 10,000.',
  })
  unrelayed!: number;
  @ApiProperty({ example: true }) unrelayed_is_exact!: boolean;
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    example: 0,
    description: 'Age of the oldest of them in milliseconds; 0 when there is none.',
  })
  lag_ms!: number;
}

class HandlerFailuresDto {
  @ApiProperty({ example: 'commands.dispatch' }) handler!: string;
  @ApiProperty({ type: 'integer', minimum: 0, example: 1 }) failed!: number;
  @ApiProperty({ example: '2025-01-15T10:30:00.000Z' }) last_failed_at!: string;
}

class HandlersHealthDto {
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    example: 1,
    description: 'Events that a handler has given up on: the dead letters.',
  })
  failed!: number;
  @ApiProperty({ type: [HandlerFailuresDto] }) by_handler!: HandlerFailuresDto[];
}

class QueueDepthDto {
  @ApiProperty({ example: 'webhooks' }) queue!: string;
  @ApiProperty({ type: 'integer', minimum: 0, example: 0 }) waiting!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 1 }) active!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 0 }) delayed!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 0 }) failed!: number;
}

class QueueHealthDto {
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    nullable: true,
    example: 1,
    description: 'Jobs not done; null: the queues do not answer.',
  })
  depth!: number | null;
  @ApiProperty({ type: [QueueDepthDto] }) queues!: QueueDepthDto[];
}

export class EventHealthDto {
  @ApiProperty({
    enum: ['healthy', 'degraded', 'unhealthy'],
    example: 'healthy',
    description:
      '`degraded`: the relay is five seconds behind, a handler gave up within the last quarter of an hour, or the queues do not answer; ' +
      '`unhealthy`: the relay is half a minute behind.',
  })
  status!: 'healthy' | 'degraded' | 'unhealthy';
  @ApiProperty({ type: RelayHealthDto }) relay!: RelayHealthDto;
  @ApiProperty({ type: HandlersHealthDto }) handlers!: HandlersHealthDto;
  @ApiProperty({ type: QueueHealthDto }) queue!: QueueHealthDto;
  @ApiProperty({ example: '2025-01-15T10:30:00.000Z' }) checked_at!: string;
}
