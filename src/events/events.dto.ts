import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Transform } from 'class-transformer';
import { IsIn, IsISO8601, IsObject, IsOptional, IsString, Matches, MaxLength, MinLength } from 'class-validator';
import { EVENT_NAME, EVENT_PRIORITIES, type EventPriority, priorityWord } from '../platform/events/index.js';
import { PageQueryDto, PaginationDto } from '../platform/http/index.js';

const EVENT_STATUSES = ['pending', 'published', 'expired'] as const;
export type EventStatus = (typeof EVENT_STATUSES)[number];
export const EVENT_SORTS = ['-timestamp', 'timestamp'] as const;
const NAME_RULE = 'must be lower-case words joined by dots, such as orders.created';
const EVENT_ID = 'evt_550e8400-e29b-41d4-a716-446655440000';

export class EmitEventDto {
  @ApiPropertyOptional({ example: 'orders.created', description: 'Lower-case words joined by dots; or `event_type`.' })
  @IsOptional()
  @MaxLength(100)
  @Matches(EVENT_NAME, { message: `type ${NAME_RULE}` })
  type?: string;

  @ApiPropertyOptional({ example: 'orders.created', description: 'The same as `type`.' })
  @IsOptional()
  @MaxLength(100)
  @Matches(EVENT_NAME, { message: `event_type ${NAME_RULE}` })
  event_type?: string;

  @ApiProperty({
    type: 'object',
    additionalProperties: true,
    example: { order_id: '4711', total: 12.5 },
    description: 'At most 64 KiB as JSON.',
  })
  @IsObject()
  data!: Record<string, unknown>;

  @ApiPropertyOptional({ example: 'shop', description: 'Where it comes from; default: the id of who emits it.' })
  @IsOptional()
  @IsString()
  @MinLength(1)
  @MaxLength(200)
  source?: string;

  @ApiPropertyOptional({
    type: 'object',
    additionalProperties: true,
    example: { region: 'eu' },
    description: 'At most 8 KiB as JSON.',
  })
  @IsOptional()
  @IsObject()
  metadata?: Record<string, unknown>;

  @ApiPropertyOptional({
    oneOf: [
      { type: 'string', enum: [...EVENT_PRIORITIES, 'medium'] },
      { type: 'integer', minimum: 1, maximum: 10 },
    ],
    example: 'high',
    description:
      'For filters and receivers; default `normal`. Nothing is delivered sooner for it. `medium` is normal; of integers 1 and 2 are low, ' +
      '3 to 5 normal, 6 to 8 high, 9 and 10 critical.',
  })
  @Transform(({ value }) => priorityWord(value))
  @IsOptional()
  @IsIn(EVENT_PRIORITIES)
  priority?: EventPriority;

  @ApiPropertyOptional({ example: '2099-01-15T10:30:00Z', description: 'From then on nobody is told of it any more.' })
  @IsOptional()
  @IsISO8601({ strict: true })
  @MaxLength(40)
  expires_at?: string;

  @ApiPropertyOptional({ example: 'checkout-93f1', description: 'Ties together what belongs together.' })
  @IsOptional()
  @IsString()
  @MinLength(1)
  @MaxLength(200)
  correlation_id?: string;
}

class EmittedEventFieldsDto {
  @ApiProperty({ example: EVENT_ID }) event_id!: string;
  @ApiProperty({ example: 'orders.created' }) type!: string;
  @ApiProperty({ example: 'orders.created' }) event_type!: string;
  @ApiProperty({ example: '2025-01-15T10:30:00.000Z' }) timestamp!: string;
  @ApiProperty({
    enum: EVENT_STATUSES,
    example: 'pending',
    description: '`pending`: stored and about to be told; `published`: every subscriber has it to handle; `expired`.',
  })
  status!: EventStatus;
  @ApiProperty({ example: 'shop', description: '`nexus`: the server itself.' }) source!: string;
  @ApiProperty({ enum: EVENT_PRIORITIES, example: 'high' }) priority!: EventPriority;
  @ApiProperty({ type: String, nullable: true, example: 'checkout-93f1' }) correlation_id!: string | null;
  @ApiProperty({ type: String, nullable: true, example: '2099-01-15T10:30:00.000Z' }) expires_at!: string | null;
}

class EmittedEventDto extends EmittedEventFieldsDto {
  @ApiProperty({ type: 'integer', minimum: 0, example: 2, description: 'Webhooks and subscriptions that want it.' })
  subscriber_count!: number;
}

export class EmittedEventAnswerDto {
  @ApiProperty({ type: EmittedEventDto }) event!: EmittedEventDto;
}

export class EventDto extends EmittedEventFieldsDto {
  @ApiProperty({ type: 'object', additionalProperties: true, example: { order_id: '4711', total: 12.5 } })
  data!: Record<string, unknown>;
  @ApiProperty({ type: 'object', additionalProperties: true, nullable: true, example: { region: 'eu' } })
  metadata!: Record<string, unknown> | null;
  @ApiProperty({ type: String, nullable: true, example: null, description: 'What an event of the server is about.' })
  subject!: string | null;
  @ApiProperty({ example: 'user_550e8400-e29b-41d4-a716-446655440000' }) actor_id!: string;
}

class EventDeliveryDto {
  @ApiProperty({ example: 'dlv_550e8400-e29b-41d4-a716-446655440000' }) delivery_id!: string;
  @ApiProperty({ example: 'webhook_550e8400-e29b-41d4-a716-446655440000' }) webhook_id!: string;
  @ApiProperty({ enum: ['pending', 'delivered', 'failed', 'cancelled'], example: 'delivered' }) status!: string;
  @ApiProperty({ type: 'integer', minimum: 0, example: 1 }) attempts!: number;
  @ApiProperty({ type: 'integer', minimum: 100, nullable: true, example: 204 }) last_status_code!: number | null;
  @ApiProperty({ type: String, nullable: true, example: null }) last_error!: string | null;
  @ApiProperty({ type: String, nullable: true, example: null }) next_attempt_at!: string | null;
  @ApiProperty({ type: String, nullable: true, example: '2025-01-15T10:30:00.000Z' }) finished_at!: string | null;
}

class DeliveryInfoDto {
  @ApiProperty({ type: 'integer', minimum: 0, example: 2 }) total!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 1 }) pending!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 1 }) delivered!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 0 }) failed!: number;
  @ApiPropertyOptional({ type: [EventDeliveryDto], description: 'The newest hundred; needs the scope `webhook:read`.' })
  deliveries?: EventDeliveryDto[];
}

export class EventDetailDto {
  @ApiProperty({ type: EventDto }) event!: EventDto;
  @ApiProperty({ type: DeliveryInfoDto }) delivery_info!: DeliveryInfoDto;
}

export class EventQueryDto extends PageQueryDto {
  @ApiPropertyOptional({ example: 'orders.*', description: 'A name, `orders.*`, `*.created` or `*`.' })
  @IsOptional()
  @MaxLength(100)
  @Matches(/^(\*|[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*(\.\*)?|\*(\.[a-z][a-z0-9_]*)+)$/, {
    message: 'event_type must be an event name such as task.completed, task.*, *.created or *',
  })
  event_type?: string;

  @ApiPropertyOptional({ example: 'shop', description: '`nexus`: the server itself.' })
  @IsOptional()
  @IsString()
  @MaxLength(200)
  source?: string;

  @ApiPropertyOptional({ example: '2025-01-15T00:00:00Z', description: 'From then on.' })
  @IsOptional()
  @IsISO8601({ strict: true })
  @MaxLength(40)
  start_time?: string;

  @ApiPropertyOptional({ example: '2099-01-16T00:00:00Z', description: 'Before then.' })
  @IsOptional()
  @IsISO8601({ strict: true })
  @MaxLength(40)
  end_time?: string;

  @ApiPropertyOptional({ example: 'checkout-93f1' })
  @IsOptional()
  @IsString()
  @MaxLength(200)
  correlation_id?: string;

  @ApiPropertyOptional({
    enum: [...EVENT_PRIORITIES, 'medium'],
    example: 'high',
    description: 'Or 1 to 10, as emitted.',
  })
  @Transform(({ value }) => priorityWord(value))
  @IsOptional()
  @IsIn(EVENT_PRIORITIES)
  priority?: EventPriority;

  @ApiPropertyOptional({
    enum: EVENT_STATUSES,
    example: 'published',
    description: 'Left out: all that are not expired.',
  })
  @IsOptional()
  @IsIn(EVENT_STATUSES)
  status?: EventStatus;

  @ApiPropertyOptional({ enum: EVENT_SORTS, example: '-timestamp', description: 'Default: the newest first.' })
  @IsOptional()
  @IsIn(EVENT_SORTS)
  sort?: (typeof EVENT_SORTS)[number];
}

export class EventListDto {
  @ApiProperty({ type: [EventDto] }) events!: EventDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
  @ApiProperty({
    type: 'object',
    additionalProperties: true,
    example: { event_type: 'orders.*', sort: '-timestamp' },
    description: 'The filters that were understood.',
  })
  filters_applied!: Record<string, string>;
}
