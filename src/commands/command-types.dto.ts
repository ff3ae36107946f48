import { ApiProperty, ApiPropertyOptional, OmitType } from '@nestjs/swagger';
import { PaginationDto } from '../platform/http/index.js';
import { IsBoolean, IsIn, IsInt, IsObject, IsOptional, IsString, Matches, Max, MaxLength, Min } from 'class-validator';

const TYPE_NAME = /^[a-z][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*$/;
export const RISKS = ['low', 'medium', 'high'] as const;
export const TYPE_EXECUTORS = ['agent', 'server', 'any'] as const;

export class CreateCommandTypeDto {
  @ApiProperty({ example: 'deploy.service', maxLength: 100 })
  @IsString()
  @MaxLength(100)
  @Matches(TYPE_NAME, { message: 'type must be lower-case words joined by dots' })
  type!: string;

  @ApiPropertyOptional({ example: 'Deploys one version of a service', maxLength: 1000 })
  @IsOptional()
  @IsString()
  @MaxLength(1000)
  description?: string;

  @ApiPropertyOptional({
    type: 'object',
    additionalProperties: true,
    description: 'JSON Schema (2020-12) that the parameters must meet; without it any object will do.',
    example: { type: 'object', required: ['version'], properties: { version: { type: 'string', maxLength: 50 } } },
  })
  @IsOptional()
  @IsObject()
  parameters?: Record<string, unknown>;

  @ApiPropertyOptional({ enum: TYPE_EXECUTORS, example: 'agent', description: 'Who may carry it out; default agent.' })
  @IsOptional()
  @IsIn(TYPE_EXECUTORS)
  executor?: (typeof TYPE_EXECUTORS)[number];

  @ApiPropertyOptional({
    type: 'integer',
    example: 300,
    minimum: 1,
    maximum: 3600,
    description: 'Seconds; default 300.',
  })
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(3600)
  default_timeout_seconds?: number;

  @ApiPropertyOptional({
    enum: RISKS,
    example: 'medium',
    description: 'Default medium. Stored and shown; the server does not use it yet.',
  })
  @IsOptional()
  @IsIn(RISKS)
  risk?: (typeof RISKS)[number];

  @ApiPropertyOptional({ example: false, description: 'True when running it twice does no harm; default false.' })
  @IsOptional()
  @IsBoolean()
  idempotent?: boolean;

  @ApiPropertyOptional({ example: true, description: 'False refuses new commands of the type; default true.' })
  @IsOptional()
  @IsBoolean()
  enabled?: boolean;
}

/** A full replacement: what is left out takes its default. */
export class PutCommandTypeDto extends OmitType(CreateCommandTypeDto, ['type']) {}

export class CommandTypeDto {
  @ApiProperty({ example: 'deploy.service' }) type!: string;
  @ApiProperty({ example: 'Deploys one version of a service' }) description!: string;
  @ApiProperty({ type: 'object', additionalProperties: true, example: { type: 'object' } })
  parameters!: Record<string, unknown>;
  @ApiProperty({ enum: TYPE_EXECUTORS, example: 'agent' }) executor!: string;
  @ApiProperty({ type: 'integer', minimum: 1, example: 300 }) default_timeout_seconds!: number;
  @ApiProperty({ enum: RISKS, example: 'medium' }) risk!: string;
  @ApiProperty({ example: false }) idempotent!: boolean;
  @ApiProperty({ example: true }) enabled!: boolean;
  @ApiProperty({ example: false, description: 'Comes with the server and cannot be deleted.' }) built_in!: boolean;
  @ApiProperty({ example: '2025-01-15T10:30:00.000Z' }) created_at!: string;
  @ApiProperty({ example: '2025-01-15T10:30:00.000Z' }) updated_at!: string;
}

export class CommandTypeListDto {
  @ApiProperty({ type: [CommandTypeDto] }) types!: CommandTypeDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}

export class DeletedCommandTypeDto {
  @ApiProperty({ example: 'deploy.service' }) type!: string;
  @ApiProperty({ example: 'deleted' }) status!: 'deleted';
  @ApiProperty({ example: '2025-01-15T10:30:00.000Z' }) deleted_at!: string;
}
