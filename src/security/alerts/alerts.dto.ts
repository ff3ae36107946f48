import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Transform } from 'class-transformer';
import { IsBoolean, IsIn, IsISO8601, IsOptional } from 'class-validator';
import { PageQueryDto, PaginationDto } from '../../platform/http/index.js';
import { ALERT_SEVERITIES, ALERT_TYPES, type AlertSeverity, type AlertType } from './alert-rules.js';

export class AlertQueryDto extends PageQueryDto {
  @ApiPropertyOptional({ enum: ALERT_TYPES, example: 'login_failures' })
  @IsOptional()
  @IsIn(ALERT_TYPES)
  type?: AlertType;

  @ApiPropertyOptional({ enum: ALERT_SEVERITIES, example: 'high' })
  @IsOptional()
  @IsIn(ALERT_SEVERITIES)
  severity?: AlertSeverity;

  @ApiPropertyOptional({ type: Boolean, example: false })
  @IsOptional()
  @Transform(({ value }: { value: unknown }) => (value === 'true' ? true : value === 'false' ? false : value))
  @IsBoolean()
  acknowledged?: boolean;

  @ApiPropertyOptional({
    format: 'date-time',
    example: '2025-01-15T00:00:00Z',
    description: 'Alerts raised at or after this time.',
  })
  @IsOptional()
  @IsISO8601({ strict: true, strictSeparator: true })
  from?: string;

  @ApiPropertyOptional({
    format: 'date-time',
    example: '2099-01-15T00:00:00Z',
    description: 'Alerts raised before this time.',
  })
  @IsOptional()
  @IsISO8601({ strict: true, strictSeparator: true })
  to?: string;
}

export class SecurityAlertDto {
  @ApiProperty({ example: 'alert_550e8400-e29b-41d4-a716-446655440000' }) id!: string;
  @ApiProperty({ enum: ALERT_SEVERITIES, example: 'medium' }) severity!: AlertSeverity;
  @ApiProperty({ enum: ALERT_TYPES, example: 'login_failures' }) type!: AlertType;
  @ApiProperty({ example: 'Repeated failed logins from one address' }) message!: string;
  @ApiProperty({ example: '2025-11-03T01:54:00.000Z', format: 'date-time' }) timestamp!: string;
  @ApiProperty({
    example: '192.0.2.10',
    description: 'Address, network, or public id that it is about; `many` when there are more than can be told apart.',
  })
  subject!: string;
  @ApiProperty({
    type: Object,
    additionalProperties: true,
    example: { ip_address: '192.0.2.10', threshold: 5, window_seconds: 300 },
  })
  details!: Record<string, unknown>;
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    example: 7,
    description: 'How often it was seen so far; within an hour it stays the same alert.',
  })
  occurrences!: number;
  @ApiProperty({ example: '2025-11-03T01:56:12.000Z', format: 'date-time' }) last_seen_at!: string;
  @ApiProperty({ type: String, nullable: true, example: null, format: 'date-time' }) acknowledged_at!: string | null;
  @ApiProperty({ type: String, nullable: true, example: null }) acknowledged_by!: string | null;
}

export class SecurityAlertListDto {
  @ApiProperty({ type: [SecurityAlertDto] }) alerts!: SecurityAlertDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}
