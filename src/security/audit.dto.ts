import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import { IsInt, IsISO8601, IsOptional, IsString, Max, MaxLength, Min } from 'class-validator';
import { PageQueryDto, PaginationDto } from '../platform/http/index.js';

export class AuditQueryDto extends PageQueryDto {
  @ApiPropertyOptional({
    description: 'Public id of who acted; `anonymous` for requests without a valid credential.',
    example: 'user_5f0c…',
  })
  @IsOptional()
  @IsString()
  @MaxLength(100)
  user_id?: string;

  @ApiPropertyOptional({ description: 'Method and path; a prefix will do.', example: 'POST /api/v1/commands' })
  @IsOptional()
  @IsString()
  @MaxLength(500)
  action?: string;

  @ApiPropertyOptional({
    description: 'Public id of the resource acted on.',
    example: 'cmd_550e8400-e29b-41d4-a716-446655440000',
  })
  @IsOptional()
  @IsString()
  @MaxLength(100)
  resource_id?: string;

  @ApiPropertyOptional({
    format: 'date-time',
    example: '2025-01-15T00:00:00Z',
    description: 'Entries at or after this time.',
  })
  @IsOptional()
  @IsISO8601({ strict: true, strictSeparator: true })
  from?: string;

  @ApiPropertyOptional({
    format: 'date-time',
    example: '2099-01-15T00:00:00Z',
    description: 'Entries before this time.',
  })
  @IsOptional()
  @IsISO8601({ strict: true, strictSeparator: true })
  to?: string;

  @ApiPropertyOptional({ type: 'integer', minimum: 100, maximum: 599, example: 403 })
  @IsOptional()
  @Type(() => Number)
  @IsInt()
  @Min(100)
  @Max(599)
  status_code?: number;
}

export class AuditEntryDto {
  @ApiProperty({ example: '2025-11-03T01:54:00.000Z', format: 'date-time' }) timestamp!: string;
  @ApiProperty({ example: 'user_7a1e3c52-6c0b-4b0e-9d0a-3f8f2a5d9a10' }) user_id!: string;
  @ApiProperty({ type: String, nullable: true, example: 'key_550e8400-e29b-41d4-a716-446655440000' }) credential_id!:
    string | null;
  @ApiProperty({ example: 'POST /api/v1/commands' }) action!: string;
  @ApiProperty({ type: String, nullable: true, example: 'cmd_550e8400-e29b-41d4-a716-446655440000' }) resource_id!:
    string | null;
  @ApiProperty({
    type: String,
    nullable: true,
    example: '192.168.1.100',
    description:
      'For counted requests without a credential their network (IPv4 /24, IPv6 /64); null when there were too many.',
  })
  ip_address!: string | null;
  @ApiProperty({ type: String, nullable: true, example: 'NexusClient/1.0' }) user_agent!: string | null;
  @ApiProperty({
    type: String,
    nullable: true,
    example: 'alice',
    description: 'What the caller said in `X-User-ID`: a note, which nothing has checked.',
  })
  claimed_user_id!: string | null;
  @ApiProperty({ type: 'integer', minimum: 100, example: 201 }) status_code!: number;
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    example: 1,
    description:
      'Requests this entry stands for. High-rate routes, refusals by a rate limit and requests without a credential have one entry a minute.',
  })
  count!: number;
  @ApiProperty({ type: String, nullable: true, example: 'req_01JQ8Z9V0N5T3M2K1H7G6F5E4D' }) request_id!: string | null;
}

export class AuditListDto {
  @ApiProperty({ type: [AuditEntryDto] }) entries!: AuditEntryDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}
