import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayMinSize,
  IsArray,
  IsIn,
  IsInt,
  IsISO8601,
  IsObject,
  IsOptional,
  IsString,
  Matches,
  Max,
  MaxLength,
  Min,
  MinLength,
  ValidateNested,
} from 'class-validator';
import { EVENT_PATTERN } from '../platform/events/index.js';
import { IsPublicId } from '../platform/ids/index.js';

export const REPLAY_MODES = ['immediate', 'paced'] as const;
const TASK_STATUSES = ['queued', 'running', 'completed', 'failed', 'cancelled'] as const;
type TaskStatus = (typeof TASK_STATUSES)[number];
const TYPE_RULE = 'each of event_types must be an event name such as orders.created, orders.*, *.created or *';

export class ReplayFilterDto {
  @ApiPropertyOptional({
    example: ['orders.*', '*.failed'],
    description: 'Any of these; left out: events of every kind.',
  })
  @IsOptional()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(100)
  @MaxLength(100, { each: true })
  @Matches(EVENT_PATTERN, { each: true, message: TYPE_RULE })
  event_types?: string[];

  @ApiPropertyOptional({ format: 'date-time', example: '2025-01-15T00:00:00Z' })
  @IsOptional()
  @IsISO8601({ strict: true, strictSeparator: true })
  @MaxLength(40)
  start_time?: string;

  @ApiPropertyOptional({ format: 'date-time', example: '2025-01-16T00:00:00Z', description: 'Exclusive; default now.' })
  @IsOptional()
  @IsISO8601({ strict: true, strictSeparator: true })
  @MaxLength(40)
  end_time?: string;

  @ApiPropertyOptional({ example: 'shop', description: '`nexus`: the server itself.' })
  @IsOptional()
  @IsString()
  @MinLength(1)
  @MaxLength(100)
  source?: string;

  @ApiPropertyOptional({ example: 'checkout-93f1' })
  @IsOptional()
  @IsString()
  @MinLength(1)
  @MaxLength(200)
  correlation_id?: string;

  @ApiPropertyOptional({ example: ['evt_550e8400-e29b-41d4-a716-446655440000'] })
  @IsOptional()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(1000)
  @IsPublicId('evt', { each: true })
  event_ids?: string[];
}

export class CreateReplayDto {
  @ApiProperty({ type: ReplayFilterDto, description: 'One of start_time, event_ids and correlation_id is needed.' })
  @IsObject()
  @ValidateNested()
  @Type(() => ReplayFilterDto)
  event_filter!: ReplayFilterDto;

  @ApiPropertyOptional({
    example: ['webhook_550e8400-e29b-41d4-a716-446655440000'],
    description:
      'Webhooks, or event subscriptions with one, by id; handlers of the server by name. Left out: all webhooks. Each gets only what it asked for.',
  })
  @IsOptional()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(100)
  @IsString({ each: true })
  @MaxLength(100, { each: true })
  target_subscribers?: string[];

  @ApiPropertyOptional({
    enum: REPLAY_MODES,
    example: 'paced',
    description: '`immediate` (default): up to 200 events a second. `paced`: one by one with a pause.',
  })
  @IsOptional()
  @IsIn(REPLAY_MODES)
  replay_mode?: (typeof REPLAY_MODES)[number];

  @ApiPropertyOptional({
    type: 'integer',
    example: 250,
    minimum: 1,
    maximum: 60_000,
    description: 'Pause of `paced`, in milliseconds; default 100.',
  })
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(60_000)
  delay_between_events_ms?: number;
}

class OperationErrorDto {
  @ApiProperty({ example: 'UNPROCESSABLE_ENTITY' }) code!: string;
  @ApiProperty({ example: 'More than 100000 events are meant: narrow the filter' }) message!: string;
}

/** What replays and purges have in common. */
export class EventOperationDto {
  @ApiProperty({ enum: TASK_STATUSES, example: 'running' }) status!: TaskStatus;
  @ApiProperty({ example: 42.5, description: '0 to 100.' }) progress!: number;
  @ApiProperty({ type: String, nullable: true, example: 'send' }) current_step!: string | null;
  @ApiProperty({ example: 'user_550e8400-e29b-41d4-a716-446655440000' }) created_by!: string;
  @ApiProperty({ example: '2025-01-16T10:30:00.000Z' }) created_at!: string;
  @ApiProperty({ type: String, nullable: true, example: '2025-01-16T10:30:00.100Z' }) started_at!: string | null;
  @ApiProperty({ type: String, nullable: true, example: null }) completed_at!: string | null;
  @ApiProperty({ type: OperationErrorDto, nullable: true, example: null }) error!: OperationErrorDto | null;
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    nullable: true,
    example: 1200,
    description: 'Events that are meant; grows while they are counted.',
  })
  total!: number | null;
}

class ReplayOutcomeDto {
  @ApiProperty({ type: 'integer', minimum: 0, example: 3 }) pending!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 508 }) delivered!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 1 }) failed!: number;
}

export class ReplayDto extends EventOperationDto {
  @ApiProperty({ example: 'replay_550e8400-e29b-41d4-a716-446655440000' }) replay_id!: string;
  @ApiProperty({ enum: REPLAY_MODES, example: 'immediate' }) replay_mode!: (typeof REPLAY_MODES)[number];
  @ApiProperty({ type: 'integer', minimum: 0, example: 512, description: 'Events told of so far.' }) replayed!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 512, description: 'Deliveries to webhooks that were begun.' })
  deliveries!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 0, description: 'Jobs given to handlers of the server.' })
  handler_jobs!: number;
  @ApiPropertyOptional({ type: ReplayOutcomeDto, description: 'How those deliveries fare.' })
  delivery_info?: ReplayOutcomeDto;
}
