import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayMinSize,
  IsArray,
  IsIn,
  IsObject,
  IsOptional,
  IsString,
  Matches,
  MaxLength,
  ValidateNested,
} from 'class-validator';
import { PageQueryDto, PaginationDto } from '../platform/http/index.js';
import { IsPublicId } from '../platform/ids/index.js';
import { SEVERITIES, type Severity } from './rule-definition.js';

const EXAMPLE_TIME = '2025-01-15T10:30:00.000Z';
export const SILENCE_STATUSES = ['pending', 'active', 'expired'] as const;

export class MatchersDto {
  @ApiPropertyOptional({ example: ['rule_550e8400-e29b-41d4-a716-446655440000'] })
  @IsOptional()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(100)
  @IsPublicId('rule', { each: true })
  rule_ids?: string[];

  @ApiPropertyOptional({ enum: SEVERITIES, isArray: true, example: ['info', 'warning'] })
  @IsOptional()
  @IsArray()
  @ArrayMinSize(1)
  @IsIn(SEVERITIES, { each: true })
  severities?: Severity[];

  @ApiPropertyOptional({ example: ['web-*'] })
  @IsOptional()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(100)
  @Matches(/^\P{Cc}{1,100}$/u, { each: true, message: 'each of sources must be 1 to 100 characters; * stands for any' })
  sources?: string[];

  @ApiPropertyOptional({
    type: 'object',
    additionalProperties: { type: 'string' },
    example: { environment: 'staging' },
  })
  @IsOptional()
  @IsObject()
  tags?: Record<string, string>;
}

export class CreateSilenceDto {
  @ApiProperty({ type: MatchersDto, description: 'What an alert must be like; all that is given must fit.' })
  @IsObject()
  @ValidateNested()
  @Type(() => MatchersDto)
  matchers!: MatchersDto;

  @ApiPropertyOptional({ example: EXAMPLE_TIME, description: 'With a time zone. Default now.' })
  @IsOptional()
  @IsString()
  starts_at?: string;

  @ApiProperty({ example: '2099-01-15T12:30:00.000Z', description: 'With a time zone.' })
  @IsString()
  ends_at!: string;

  @ApiPropertyOptional({ example: 'New disks are being fitted', maxLength: 1000 })
  @IsOptional()
  @IsString()
  @MaxLength(1000)
  comment?: string;
}

export class SilenceListQueryDto extends PageQueryDto {
  @ApiPropertyOptional({ enum: SILENCE_STATUSES, example: 'active' })
  @IsOptional()
  @IsIn(SILENCE_STATUSES)
  status?: (typeof SILENCE_STATUSES)[number];
}

export class SilenceDto {
  @ApiProperty({ example: 'silence_550e8400-e29b-41d4-a716-446655440000' }) silence_id!: string;
  @ApiProperty({ enum: SILENCE_STATUSES, example: 'active' }) status!: (typeof SILENCE_STATUSES)[number];
  @ApiProperty({ type: MatchersDto }) matchers!: object;
  @ApiProperty({ example: EXAMPLE_TIME }) starts_at!: string;
  @ApiProperty({ example: '2025-01-15T12:30:00.000Z' }) ends_at!: string;
  @ApiProperty({ example: 'New disks are being fitted' }) comment!: string;
  @ApiProperty({ example: 'user_550e8400-e29b-41d4-a716-446655440000' }) created_by!: string;
  @ApiProperty({ example: EXAMPLE_TIME }) created_at!: string;
}

export class SilenceListDto {
  @ApiProperty({ type: [SilenceDto] }) silences!: SilenceDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}

export class DeletedSilenceDto {
  @ApiProperty({ example: 'silence_550e8400-e29b-41d4-a716-446655440000' }) silence_id!: string;
  @ApiProperty({ example: 'deleted' }) status!: 'deleted';
}
