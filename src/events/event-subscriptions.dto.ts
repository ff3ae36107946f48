import { ApiProperty, ApiPropertyOptional, OmitType } from '@nestjs/swagger';
import { Transform, Type } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayMinSize,
  IsArray,
  IsBoolean,
  IsIn,
  IsObject,
  IsOptional,
  IsString,
  IsUrl,
  Matches,
  MaxLength,
  MinLength,
  ValidateNested,
} from 'class-validator';
import { IsSigningSecret } from '../platform/crypto/index.js';
import { EVENT_PATTERN, EVENT_PATTERN_RULE } from '../platform/events/index.js';
import { PageQueryDto, PaginationDto, WarningDto } from '../platform/http/index.js';
import { BatchConfigDto, RetryConfigDto } from '../webhooks/index.js';

const DELIVERY_METHODS = ['webhook', 'stream'] as const;
export type DeliveryMethod = (typeof DELIVERY_METHODS)[number];

export class WebhookConfigDto {
  @ApiProperty({ example: 'https://example.com/webhooks/nexus', maxLength: 2048 })
  @IsUrl({ protocols: ['http', 'https'], require_protocol: true, require_tld: false })
  @MaxLength(2048)
  url!: string;

  @ApiPropertyOptional({
    example: 'webhook_secret_key',
    description:
      'Signs the deliveries: at least 16 characters, or `whsec_` and base64 of 24 to 64 bytes. Left out: 32 random bytes, shown in the first answer alone.',
  })
  @IsOptional()
  @IsSigningSecret()
  secret?: string;

  @ApiPropertyOptional({ type: RetryConfigDto })
  @IsOptional()
  @IsObject()
  @ValidateNested()
  @Type(() => RetryConfigDto)
  retry_config?: RetryConfigDto;
}

export class CreateSubscriptionDto {
  @ApiProperty({ example: 'Orders to the warehouse', maxLength: 200 })
  @IsString()
  @MinLength(1)
  @MaxLength(200)
  name!: string;

  @ApiProperty({
    example: ['orders.*', '*.failed'],
    description: 'Event names; `*` alone, before or behind a name stands for one or more words.',
  })
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(50)
  @MaxLength(100, { each: true })
  @Matches(EVENT_PATTERN, { each: true, message: EVENT_PATTERN_RULE.replace('events', 'event_patterns') })
  event_patterns!: string[];

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

  @ApiProperty({
    enum: DELIVERY_METHODS,
    example: 'webhook',
    description: '`webhook`: requests to `webhook_config.url`; `stream`: followed as `subscription_id` of a stream.',
  })
  @IsIn(DELIVERY_METHODS)
  delivery_method!: DeliveryMethod;

  @ApiPropertyOptional({ type: WebhookConfigDto, description: 'Needed by `webhook`, and only there.' })
  @IsOptional()
  @IsObject()
  @ValidateNested()
  @Type(() => WebhookConfigDto)
  webhook_config?: WebhookConfigDto;

  @ApiPropertyOptional({
    type: BatchConfigDto,
    nullable: true,
    description: 'Many events in one delivery of a webhook. Null: one event each.',
  })
  @IsOptional()
  @IsObject()
  @ValidateNested()
  @Type(() => BatchConfigDto)
  batch_config?: BatchConfigDto | null;

  @ApiPropertyOptional({ example: true, description: 'False: nothing is sent; default true.' })
  @IsOptional()
  @IsBoolean()
  enabled?: boolean;
}

class PutWebhookConfigDto extends OmitType(WebhookConfigDto, ['secret']) {
  @ApiPropertyOptional({
    example: 'webhook_secret_key',
    description: 'Replaces the secret at once. Left out: the secret stays, as it is never shown again.',
  })
  @IsOptional()
  @IsSigningSecret()
  secret?: string;
}

export class PutSubscriptionDto extends OmitType(CreateSubscriptionDto, ['webhook_config']) {
  @ApiPropertyOptional({ type: PutWebhookConfigDto, description: 'Needed by `webhook`, and only there.' })
  @IsOptional()
  @IsObject()
  @ValidateNested()
  @Type(() => PutWebhookConfigDto)
  webhook_config?: PutWebhookConfigDto;
}

class ShownWebhookConfigDto {
  @ApiProperty({ example: 'https://example.com/webhooks/nexus' }) url!: string;
  @ApiProperty({ type: RetryConfigDto }) retry_config!: RetryConfigDto;
  @ApiProperty({
    example: 'webhook_550e8400-e29b-41d4-a716-446655440000',
    description: 'Under `/webhooks`: its deliveries, a test, another secret.',
  })
  webhook_id!: string;
  @ApiPropertyOptional({
    example: 'whsec_3q2+7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=',
    description: 'Only when the server has made it; never shown again.',
  })
  secret?: string;
}

export class SubscriptionDto {
  @ApiProperty({ example: 'sub_550e8400-e29b-41d4-a716-446655440000' }) subscription_id!: string;
  @ApiProperty({ example: 'Orders to the warehouse' }) name!: string;
  @ApiProperty({ example: ['orders.*', '*.failed'] }) event_patterns!: string[];
  @ApiProperty({ type: 'object', additionalProperties: true, nullable: true, example: { source: 'shop' } })
  filters!: Record<string, unknown> | null;
  @ApiProperty({ enum: DELIVERY_METHODS, example: 'webhook' }) delivery_method!: DeliveryMethod;
  @ApiProperty({ type: ShownWebhookConfigDto, nullable: true }) webhook_config!: ShownWebhookConfigDto | null;
  @ApiProperty({ type: BatchConfigDto, nullable: true }) batch_config!: BatchConfigDto | null;
  @ApiProperty({ example: true }) enabled!: boolean;
  @ApiProperty({
    enum: ['active', 'paused', 'disabled'],
    example: 'active',
    description:
      '`disabled`: its receiver is gone or has failed for too long, or its owner lost the right to it; `enabled: true` revives it.',
  })
  status!: 'active' | 'paused' | 'disabled';
  @ApiProperty({ example: 'user_550e8400-e29b-41d4-a716-446655440000' }) owner_id!: string;
  @ApiProperty({ type: 'integer', minimum: 1, example: 1 }) version!: number;
  @ApiProperty({ example: '2025-01-15T10:30:00.000Z' }) created_at!: string;
  @ApiProperty({ example: '2025-01-15T10:30:00.000Z' }) updated_at!: string;
}

export class SubscriptionAnswerDto {
  @ApiProperty({ type: SubscriptionDto }) subscription!: SubscriptionDto;
  @ApiPropertyOptional({
    type: [WarningDto],
    description: 'Names that no event has had so far; in the answer to a request that names them.',
  })
  warnings?: WarningDto[];
}

export class SubscriptionQueryDto extends PageQueryDto {
  @ApiPropertyOptional({ enum: DELIVERY_METHODS, example: 'stream' })
  @IsOptional()
  @IsIn(DELIVERY_METHODS)
  delivery_method?: DeliveryMethod;

  @ApiPropertyOptional({ type: Boolean, example: true })
  @Transform(({ value }: { value: unknown }) => (value === 'true' ? true : value === 'false' ? false : value))
  @IsOptional()
  @IsBoolean()
  enabled?: boolean;
}

export class SubscriptionListDto {
  @ApiProperty({ type: [SubscriptionDto] }) subscriptions!: SubscriptionDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}

export class DeletedSubscriptionDto {
  @ApiProperty({ example: 'sub_550e8400-e29b-41d4-a716-446655440000' }) subscription_id!: string;
  @ApiProperty({ example: 'deleted' }) status!: 'deleted';
}
