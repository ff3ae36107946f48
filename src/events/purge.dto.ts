import { ApiProperty, ApiPropertyOptional, PickType } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import {
  IsBoolean,
  IsIn,
  IsInt,
  IsISO8601,
  IsObject,
  IsOptional,
  Matches,
  Max,
  MaxLength,
  Min,
  ValidateNested,
} from 'class-validator';
import { EventOperationDto, ReplayFilterDto } from './replay.dto.js';

export const PURGED_STATUSES = ['published', 'expired'] as const;

export class PurgeCriteriaDto extends PickType(ReplayFilterDto, ['event_types', 'source']) {
  @ApiPropertyOptional({
    format: 'date-time',
    example: '2025-01-15T00:00:00Z',
    description: 'Events from before then; this or older_than is needed. Those of the last minute are never meant.',
  })
  @IsOptional()
  @IsISO8601({ strict: true, strictSeparator: true })
  @MaxLength(40)
  before?: string;

  @ApiPropertyOptional({ example: '30d', description: 'A number of `s`, `m`, `h` or `d`, instead of before.' })
  @IsOptional()
  @Matches(/^\d{1,6}[smhd]$/, { message: 'older_than must be a number of s, m, h or d such as 30d' })
  older_than?: string;

  @ApiPropertyOptional({ enum: PURGED_STATUSES, example: 'expired', description: 'Left out: both.' })
  @IsOptional()
  @IsIn(PURGED_STATUSES)
  status?: (typeof PURGED_STATUSES)[number];
}

export class CreatePurgeDto {
  @ApiProperty({
    type: PurgeCriteriaDto,
    example: { event_types: ['orders.*'], source: 'shop', older_than: '30d', status: 'expired' },
  })
  @IsObject()
  @ValidateNested()
  @Type(() => PurgeCriteriaDto)
  criteria!: PurgeCriteriaDto;

  @ApiPropertyOptional({ example: true, description: 'Only counts; default false.' })
  @IsOptional()
  @IsBoolean()
  dry_run?: boolean;

  @ApiPropertyOptional({
    type: 'integer',
    example: 500,
    minimum: 1,
    maximum: 2000,
    description: 'Most events deleted in one transaction; default 500.',
  })
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(2000)
  batch_size?: number;
}

export class PurgeDto extends EventOperationDto {
  @ApiProperty({ example: 'purge_550e8400-e29b-41d4-a716-446655440000' }) purge_id!: string;
  @ApiProperty({ example: false }) dry_run!: boolean;
  @ApiProperty({ example: '2025-01-15T00:00:00.000Z', description: 'Events from before then are meant.' })
  before!: string;
  @ApiProperty({ type: 'integer', minimum: 0, example: 500 }) deleted!: number;
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    example: 2,
    description: 'Meant too, but still to be delivered to some webhook.',
  })
  kept!: number;
}
