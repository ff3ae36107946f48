import { ApiProperty, ApiPropertyOptional, PartialType, PickType } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayMinSize,
  IsArray,
  IsBoolean,
  IsIn,
  IsInt,
  IsISO8601,
  IsObject,
  IsOptional,
  IsString,
  IsUrl,
  Matches,
  Max,
  MaxLength,
  Min,
  ValidateNested,
} from 'class-validator';
import { IsSigningSecret } from '../platform/crypto/index.js';
import { EVENT_PATTERN, EVENT_PATTERN_RULE } from '../platform/events/index.js';
import { PageQueryDto, PaginationDto, WarningDto } from '../platform/http/index.js';

export const DELIVERY_STATUSES = ['pending', 'delivered', 'failed', 'cancelled'] as const;
const RECOVERY_STATUSES = ['queued', 'running', 'completed', 'failed', 'cancelled'] as const;
export const WEBHOOK_STATUSES = ['active', 'paused', 'disabled'] as const;

export class RetryConfigDto {
  @ApiPropertyOptional({
    enum: ['long'],
    example: 'long',
    description: '`long`: 8 attempts within some 28 hours, instead of the two numbers.',
  })
  @IsOptional()
  @IsIn(['long'])
  preset?: 'long';

  @ApiPropertyOptional({
    type: 'integer',
    example: 3,
    minimum: 0,
    maximum: 20,
    description: 'Attempts after the first; default 3.',
  })
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(20)
  max_retries?: number;

  @ApiPropertyOptional({
    type: 'integer',
    example: 60,
    minimum: 1,
    maximum: 86_400,
    description: 'Pause before the first retry, doubled before each further one; default 60.',
  })
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(86_400)
  retry_delay_seconds?: number;
}

export class BatchConfigDto {
  @ApiProperty({
    type: 'integer',
    example: 50,
    minimum: 1,
    maximum: 500,
    description: 'Events of one delivery, at most.',
  })
  @IsInt()
  @Min(1)
  @Max(500)
  max_size!: number;

  @ApiProperty({
    type: 'integer',
    example: 5000,
    minimum: 100,
    maximum: 3_600_000,
    description: 'Longest wait for more, in milliseconds; looked at once a second.',
  })
  @IsInt()
  @Min(100)
  @Max(3_600_000)
  max_wait_ms!: number;
}

export class CreateWebhookDto {
  @ApiProperty({ example: 'https://example.com/webhooks/nexus', maxLength: 2048 })
  @IsUrl({ protocols: ['http', 'https'], require_protocol: true, require_tld: false })
  @MaxLength(2048)
  url!: string;

  @ApiProperty({
    example: ['command.failed', 'telemetry.*'],
    description:
      'Event names; `*` alone, before or behind a name stands for one or more words. Of a pattern comes what the caller may read; naming an event takes its scope.',
  })
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(100)
  @MaxLength(100, { each: true })
  @Matches(EVENT_PATTERN, { each: true, message: EVENT_PATTERN_RULE })
  events!: string[];

  @ApiPropertyOptional({
    example: 'webhook_secret_key',
    description:
      'Signs the deliveries: at least 16 characters, or `whsec_` and base64 of 24 to 64 bytes. Left out: 32 random bytes, shown in this answer alone.',
  })
  @IsOptional()
  @IsSigningSecret()
  secret?: string;

  @ApiPropertyOptional({ example: true, description: 'False: nothing is sent; default true.' })
  @IsOptional()
  @IsBoolean()
  active?: boolean;

  @ApiPropertyOptional({ type: RetryConfigDto })
  @IsOptional()
  @IsObject()
  @ValidateNested()
  @Type(() => RetryConfigDto)
  retry_config?: RetryConfigDto;

  @ApiPropertyOptional({
    type: 'object',
    additionalProperties: true,
    nullable: true,
    example: { source: ['shop', 'billing'], priority: 'high' },
    description:
      'Wanted values, one or a list per field of the event or its data; all fields must fit. Null: all events.',
  })
  @IsOptional()
  @IsObject()
  filters?: Record<string, unknown> | null;

  @ApiPropertyOptional({
    type: BatchConfigDto,
    nullable: true,
    description: 'Many events in one delivery. Null: one event each.',
  })
  @IsOptional()
  @IsObject()
  @ValidateNested()
  @Type(() => BatchConfigDto)
  batch_config?: BatchConfigDto | null;

  @ApiPropertyOptional({ example: 'Tells the pager', maxLength: 1000 })
  @IsOptional()
  @IsString()
  @MaxLength(1000)
  description?: string;
}

/** Omitted fields do not change. `active: true` also activates a disabled webhook. */
export class UpdateWebhookDto extends PartialType(
  PickType(CreateWebhookDto, ['url', 'events', 'active', 'retry_config', 'filters', 'batch_config', 'description']),
) {}

export class WebhookDto {
  @ApiProperty({ example: 'webhook_550e8400-e29b-41d4-a716-446655440000' }) webhook_id!: string;
  @ApiProperty({ example: 'https://example.com/webhooks/nexus' }) url!: string;
  @ApiProperty({ example: ['command.failed', 'telemetry.*'] }) events!: string[];
  @ApiProperty({ type: 'object', additionalProperties: true, nullable: true, example: { source: 'shop' } })
  filters!: Record<string, unknown> | null;
  @ApiProperty({ type: BatchConfigDto, nullable: true }) batch_config!: BatchConfigDto | null;
  @ApiProperty({
    type: String,
    nullable: true,
    example: null,
    description: 'The event subscription that it belongs to, and that is to be changed instead of it.',
  })
  managed_by!: string | null;
  @ApiProperty({ example: true }) active!: boolean;
  @ApiProperty({ enum: WEBHOOK_STATUSES, example: 'active' }) status!: (typeof WEBHOOK_STATUSES)[number];
  @ApiProperty({
    type: String,
    nullable: true,
    example: null,
    description: '`gone` (410), `failing` (for too long) or `rights` (who set it up may no longer have it).',
  })
  disabled_reason!: string | null;
  @ApiProperty({ type: String, nullable: true, example: null }) disabled_at!: string | null;
  @ApiProperty({ type: RetryConfigDto }) retry_config!: RetryConfigDto;
  @ApiProperty({ example: 'Tells the pager' }) description!: string;
  @ApiProperty({ example: 'user_550e8400-e29b-41d4-a716-446655440000' }) created_by!: string;
  @ApiProperty({ type: String, nullable: true, example: null, description: 'Since the first failure after a success.' })
  failing_since!: string | null;
  @ApiProperty({ type: 'integer', minimum: 0, example: 0 }) consecutive_failures!: number;
  @ApiProperty({ type: String, nullable: true, example: '2025-01-15T10:30:00.000Z', description: 'To the minute.' })
  last_success_at!: string | null;
  @ApiProperty({ type: 'integer', minimum: 1, example: 1 }) version!: number;
  @ApiProperty({ example: '2025-01-15T10:30:00.000Z' }) created_at!: string;
  @ApiProperty({ example: '2025-01-15T10:30:00.000Z' }) updated_at!: string;
}

export class ChangedWebhookDto extends WebhookDto {
  @ApiPropertyOptional({
    type: [WarningDto],
    description: 'Names that no event has had so far; in the answer to a request that names them.',
  })
  warnings?: WarningDto[];
}

export class CreatedWebhookDto extends ChangedWebhookDto {
  @ApiPropertyOptional({
    example: 'whsec_3q2+7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=',
    description: 'Only when the server has made it; never shown again.',
  })
  secret?: string;
}

class WebhookStatsDto {
  @ApiProperty({ type: 'integer', minimum: 0, example: 0, description: 'Deliveries under way or waiting.' })
  pending!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 120 }) delivered_24h!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 2 }) failed_24h!: number;
}

export class WebhookDetailDto extends WebhookDto {
  @ApiProperty({ type: WebhookStatsDto }) stats!: WebhookStatsDto;
}

export class WebhookListDto {
  @ApiProperty({ type: [WebhookDto] }) webhooks!: WebhookDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}

export class DeletedWebhookDto {
  @ApiProperty({ example: 'webhook_550e8400-e29b-41d4-a716-446655440000' }) webhook_id!: string;
  @ApiProperty({ example: 'deleted' }) status!: 'deleted';
}

export class RotateSecretDto {
  @ApiPropertyOptional({ example: 'another_secret_key', description: 'Left out: 32 random bytes.' })
  @IsOptional()
  @IsSigningSecret()
  secret?: string;

  @ApiPropertyOptional({
    type: 'integer',
    example: 86_400,
    minimum: 0,
    maximum: 604_800,
    description:
      'For how long the old secret signs too, in seconds; default one day. During such a time only 0 is taken: both older secrets end at once.',
  })
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(604_800)
  overlap_seconds?: number;
}

export class RotatedSecretDto {
  @ApiProperty({ example: 'webhook_550e8400-e29b-41d4-a716-446655440000' }) webhook_id!: string;
  @ApiPropertyOptional({ example: 'whsec_3q2+7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=' }) secret?: string;
  @ApiProperty({ example: '2025-01-16T10:30:00.000Z' }) previous_secret_until!: string;
}

export class RecoverQueryDto {
  @ApiProperty({ example: '2025-01-15T10:30:00Z', description: 'Events from then on are delivered that were not yet.' })
  @IsISO8601({ strict: true })
  @MaxLength(40)
  since!: string;
}

export class RecoveryDto {
  @ApiProperty({ example: 'webhook_550e8400-e29b-41d4-a716-446655440000' }) webhook_id!: string;
  @ApiProperty({ example: '2025-01-15T10:30:00.000Z' }) since!: string;
  @ApiProperty({ example: 'job_550e8400-e29b-41d4-a716-446655440000' }) recovery_id!: string;
  @ApiProperty({ enum: RECOVERY_STATUSES, example: 'queued' }) status!: (typeof RECOVERY_STATUSES)[number];
  @ApiProperty({ example: 42.5, description: '0 to 100.' }) progress!: number;
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    example: 17,
    description: 'Deliveries that are to be made again, or at all.',
  })
  recovered!: number;
  @ApiProperty({ type: String, nullable: true, example: null }) error!: string | null;
  @ApiProperty({ example: '2025-01-16T10:30:00.000Z' }) created_at!: string;
  @ApiProperty({ type: String, nullable: true, example: null }) completed_at!: string | null;
}

export class DeliveryQueryDto extends PageQueryDto {
  @ApiPropertyOptional({ enum: DELIVERY_STATUSES, example: 'failed' })
  @IsOptional()
  @IsIn(DELIVERY_STATUSES)
  status?: (typeof DELIVERY_STATUSES)[number];

  @ApiPropertyOptional({ example: 'command.failed' })
  @IsOptional()
  @IsString()
  @MaxLength(100)
  event_type?: string;
}

export class AttemptInfoDto {
  @ApiProperty({ type: 'integer', minimum: 0, example: 1 }) attempt!: number;
  @ApiProperty({ type: 'integer', minimum: 1, example: 4 }) max_attempts!: number;
  @ApiProperty({ type: String, nullable: true, example: '2025-01-15T10:31:00.000Z' }) next_retry!: string | null;
}

export class DeliveryAttemptDto {
  @ApiProperty({ type: 'integer', minimum: 1, example: 1 }) attempt!: number;
  @ApiProperty({ example: '2025-01-15T10:30:00.000Z' }) at!: string;
  @ApiProperty({ type: 'integer', minimum: 100, nullable: true, example: 503 }) status_code!: number | null;
  @ApiProperty({ type: 'integer', minimum: 0, nullable: true, example: 41 }) latency_ms!: number | null;
  @ApiProperty({ type: String, nullable: true, example: 'HTTP_STATUS' }) error_code!: string | null;
  @ApiProperty({ type: String, nullable: true, example: 'The receiver answered 503' }) error!: string | null;
  @ApiProperty({ type: String, nullable: true, example: 'upstream is down', description: 'The first kilobyte.' })
  response_snippet!: string | null;
  @ApiProperty({
    type: AttemptInfoDto,
    nullable: true,
    description: 'What the body said of the attempt. Null when nothing was sent or the server ended before the answer.',
  })
  delivery_info!: AttemptInfoDto | null;
}

export class DeliveryDto {
  @ApiProperty({ example: 'dlv_550e8400-e29b-41d4-a716-446655440000' }) delivery_id!: string;
  @ApiProperty({ example: 'webhook_550e8400-e29b-41d4-a716-446655440000' }) webhook_id!: string;
  @ApiProperty({
    example: 'evt_550e8400-e29b-41d4-a716-446655440000',
    description: 'The `webhook-id` of all attempts.',
  })
  event_id!: string;
  @ApiProperty({ example: 'command.failed' }) event_type!: string;
  @ApiProperty({ enum: DELIVERY_STATUSES, example: 'pending' }) status!: (typeof DELIVERY_STATUSES)[number];
  @ApiProperty({
    type: String,
    nullable: true,
    example: null,
    description: 'The replay it was last sent for, if that is why it was sent.',
  })
  replay_id!: string | null;
  @ApiProperty({ type: String, nullable: true, example: '2025-01-15T10:31:00.000Z' }) next_attempt_at!: string | null;
  @ApiProperty({ example: '2025-01-15T10:30:00.000Z' }) created_at!: string;
  @ApiProperty({ type: String, nullable: true, example: null }) finished_at!: string | null;
  @ApiProperty({ type: [DeliveryAttemptDto] }) attempts!: DeliveryAttemptDto[];
}

export class DeliveryListDto {
  @ApiProperty({ type: [DeliveryDto] }) deliveries!: DeliveryDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}

class EventTypeDto {
  @ApiProperty({ example: 'command.failed' }) type!: string;
  @ApiProperty({ example: 'A command ended badly.' }) summary!: string;
  @ApiProperty({
    type: 'object',
    additionalProperties: true,
    description: 'JSON Schema (2020-12) of `data`.',
    example: { type: 'object', required: ['command_id'], properties: { command_id: { type: 'string' } } },
  })
  schema!: Record<string, unknown>;
}

export class EventTypeListDto {
  @ApiProperty({ type: [EventTypeDto] }) event_types!: EventTypeDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}
