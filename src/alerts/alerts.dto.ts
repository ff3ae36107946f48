import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Transform } from 'class-transformer';
import { IsBoolean, IsIn, IsOptional, IsString, MaxLength } from 'class-validator';
import { PageQueryDto, PaginationDto } from '../platform/http/index.js';
import { IsPublicId } from '../platform/ids/index.js';
import { SEVERITIES, type Severity } from './rule-definition.js';

const EXAMPLE_TIME = '2025-01-15T10:30:00.000Z';
const ALERT_STATUSES = ['active', 'cleared'] as const;
const CLEAR_REASONS = ['condition', 'manual', 'rule_changed', 'rule_disabled', 'rule_deleted'] as const;

const toBoolean = Transform(({ value }) => (value === 'true' ? true : value === 'false' ? false : (value as unknown)));

export class AlertListQueryDto extends PageQueryDto {
  @ApiPropertyOptional({ enum: ALERT_STATUSES, example: 'active' })
  @IsOptional()
  @IsIn(ALERT_STATUSES)
  status?: 'active' | 'cleared';

  @ApiPropertyOptional({ enum: SEVERITIES, example: 'critical' })
  @IsOptional()
  @IsIn(SEVERITIES)
  severity?: Severity;

  @ApiPropertyOptional({ example: 'rule_550e8400-e29b-41d4-a716-446655440000' })
  @IsOptional()
  @IsPublicId('rule')
  rule_id?: string;

  @ApiPropertyOptional({ example: 'web-1' })
  @IsOptional()
  @IsString()
  @MaxLength(100)
  source?: string;

  @ApiPropertyOptional({ example: false })
  @IsOptional()
  @toBoolean
  @IsBoolean()
  acknowledged?: boolean;

  @ApiPropertyOptional({ example: EXAMPLE_TIME, description: 'Raised at or after; with a time zone.' })
  @IsOptional()
  @IsString()
  from?: string;

  @ApiPropertyOptional({ example: EXAMPLE_TIME, description: 'Raised before; with a time zone.' })
  @IsOptional()
  @IsString()
  to?: string;
}

export class AlertNoteDto {
  @ApiPropertyOptional({ example: 'Looking at it', maxLength: 1000 })
  @IsOptional()
  @IsString()
  @MaxLength(1000)
  note?: string;
}

class AlertNoteEntryDto {
  @ApiProperty({ example: EXAMPLE_TIME }) at!: string;
  @ApiProperty({ example: 'user_550e8400-e29b-41d4-a716-446655440000' }) by!: string;
  @ApiProperty({ enum: ['acknowledged', 'resolved'], example: 'acknowledged' }) action!: string;
  @ApiProperty({ example: 'Looking at it' }) text!: string;
}

class AlertActionDto {
  @ApiProperty({ example: 'command' }) type!: string;
  @ApiPropertyOptional({ example: 'cmd_550e8400-e29b-41d4-a716-446655440000' }) command_id?: string;
  @ApiPropertyOptional({ example: 'webhook_550e8400-e29b-41d4-a716-446655440000' }) webhook_id?: string;
  @ApiPropertyOptional({ example: 'agent not found', description: 'Why it was not done.' }) error?: string;
}

export class AlertDto {
  @ApiProperty({ example: 'alert_550e8400-e29b-41d4-a716-446655440000' }) alert_id!: string;
  @ApiProperty({ example: 'rule_550e8400-e29b-41d4-a716-446655440000' }) rule_id!: string;
  @ApiProperty({ example: 'CPU too high' }) rule_name!: string;
  @ApiProperty({ enum: SEVERITIES, example: 'critical' }) severity!: Severity;
  @ApiProperty({ enum: ALERT_STATUSES, example: 'active' }) status!: 'active' | 'cleared';
  @ApiProperty({ example: false }) acknowledged!: boolean;
  @ApiProperty({ example: 'cpu_usage gt 90' }) condition!: string;
  @ApiProperty({ example: 'CPU too high: cpu_usage gt 90 (97.5 percent) on web-1' }) message!: string;
  @ApiProperty({ type: 'object', additionalProperties: { type: 'string' }, example: { source: 'web-1' } })
  group!: Record<string, string>;
  @ApiProperty({ type: String, nullable: true, example: 'web-1' }) source!: string | null;
  @ApiProperty({ type: String, nullable: true, example: 'cpu_usage' }) metric_name!: string | null;
  @ApiProperty({ type: Number, nullable: true, example: 97.5, description: 'Of the event that raised it.' })
  value!: number | null;
  @ApiProperty({ type: String, nullable: true, example: 'percent' }) unit!: string | null;
  @ApiProperty({ type: 'object', additionalProperties: { type: 'string' }, example: { environment: 'production' } })
  tags!: Record<string, string>;
  @ApiProperty({ type: String, nullable: true, example: '550e8400-e29b-41d4-a716-446655440000' })
  event_id!: string | null;
  @ApiProperty({ example: EXAMPLE_TIME }) started_at!: string;
  @ApiProperty({ type: Number, nullable: true, example: 98.1 }) last_value!: number | null;
  @ApiProperty({ type: String, nullable: true, example: EXAMPLE_TIME }) last_at!: string | null;
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    example: 12,
    description: 'Events that met the condition; follows by a second, approximate after a crash.',
  })
  count!: number;
  @ApiProperty({ type: String, nullable: true, example: null }) cleared_at!: string | null;
  @ApiProperty({ enum: CLEAR_REASONS, nullable: true, example: null }) clear_reason!: string | null;
  @ApiProperty({ type: String, nullable: true, example: null }) cleared_by!: string | null;
  @ApiProperty({ type: String, nullable: true, example: null }) acknowledged_at!: string | null;
  @ApiProperty({ type: String, nullable: true, example: null }) acknowledged_by!: string | null;
  @ApiProperty({ example: false, description: 'Raised under a silence: nobody is told until that ends.' })
  silenced!: boolean;
  @ApiProperty({ type: [AlertNoteEntryDto] }) notes!: AlertNoteEntryDto[];
  @ApiProperty({ type: [AlertActionDto], description: 'What became of the rule’s actions.' })
  actions!: AlertActionDto[];
}

export class AlertListDto {
  @ApiProperty({ type: [AlertDto] }) alerts!: AlertDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}
