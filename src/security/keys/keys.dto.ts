import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Transform } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayMinSize,
  IsArray,
  IsBoolean,
  IsInt,
  IsOptional,
  IsString,
  Max,
  MaxLength,
  Min,
  MinLength,
} from 'class-validator';
import { PaginationDto } from '../../platform/http/index.js';

const KEY_ID = 'key_550e8400-e29b-41d4-a716-446655440000';
const TOKEN_ID = 'token_550e8400-e29b-41d4-a716-446655440000';
const LONGEST_DAYS = 3650;
export const DEFAULT_DAYS = 90;

class NewKeyDto {
  @ApiProperty({ example: 'CI pipeline' })
  @IsString()
  @MinLength(1)
  @MaxLength(100)
  name!: string;

  @ApiPropertyOptional({
    type: 'integer',
    example: 30,
    minimum: 1,
    maximum: LONGEST_DAYS,
    description: `Default ${DEFAULT_DAYS}.`,
  })
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(LONGEST_DAYS)
  expires_in_days?: number | null;
}

export class RevokeKeyQueryDto {
  @ApiPropertyOptional({
    type: Boolean,
    example: false,
    description: 'Keeps the keys that were made with this one, which end with it otherwise. Needs a login.',
  })
  @Transform(({ value }: { value: unknown }) => (value === 'true' ? true : value === 'false' ? false : value))
  @IsOptional()
  @IsBoolean()
  keep_children?: boolean;
}

export class CreateApiKeyDto extends NewKeyDto {
  @ApiProperty({
    type: [String],
    example: ['telemetry:read', 'telemetry:write'],
    description: 'Scopes, none beyond those of the caller.',
  })
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(100)
  @IsString({ each: true })
  @MaxLength(200, { each: true })
  permissions!: string[];

  @ApiPropertyOptional({ example: 'Reports build times' })
  @IsOptional()
  @IsString()
  @MaxLength(500)
  description?: string;
}

export class CreateTokenDto extends NewKeyDto {
  @ApiProperty({
    type: [String],
    example: ['telemetry:read', 'command:write'],
    description: 'None beyond those of the caller.',
  })
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(100)
  @IsString({ each: true })
  @MaxLength(200, { each: true })
  scopes!: string[];
}

export class ApiKeyDto {
  @ApiProperty({ example: KEY_ID }) id!: string;
  @ApiProperty({ example: 'CI pipeline' }) name!: string;
  @ApiProperty({ type: String, nullable: true, example: 'Reports build times' }) description!: string | null;
  @ApiProperty({ example: 'nexus_api_9fK2mQ7x_...' }) key_preview!: string;
  @ApiProperty({ type: [String], example: ['telemetry:read'] }) permissions!: string[];
  @ApiProperty({ type: String, nullable: true, format: 'date-time', example: '2025-11-03T02:10:00.000Z' })
  last_used!: string | null;
  @ApiProperty({ format: 'date-time', example: '2025-11-03T01:54:00.000Z' }) created_at!: string;
  @ApiProperty({ type: String, nullable: true, format: 'date-time', example: '2026-02-01T01:54:00.000Z' })
  expires_at!: string | null;
  @ApiProperty({ type: String, nullable: true, example: null, description: 'Key it was made with and ends with.' })
  parent_id!: string | null;
  @ApiProperty({ example: true, description: 'Neither revoked nor expired.' }) is_active!: boolean;
}

export class ApiKeyListDto {
  @ApiProperty({ type: [ApiKeyDto] }) api_keys!: ApiKeyDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}

export class NewApiKeyDto extends ApiKeyDto {
  @ApiProperty({ example: 'nexus_api_9fK2mQ7x_...', description: 'The key itself, shown only here.' }) key!: string;
}

export class ApiKeyCreatedDto {
  @ApiProperty({ type: NewApiKeyDto }) api_key!: NewApiKeyDto;
  @ApiProperty({ example: 'Keep the key now: it is not shown again.' }) warning!: string;
}

export class TokenDto {
  @ApiProperty({ example: TOKEN_ID }) token_id!: string;
  @ApiProperty({ example: 'Deployment bot' }) name!: string;
  @ApiProperty({ example: 'nexus_tok_9fK2mQ7x_...' }) token_preview!: string;
  @ApiProperty({ example: 'user_7a1e3c52-6c0b-4b0e-9d0a-3f8f2a5d9a10' }) owner_id!: string;
  @ApiProperty({ type: [String], example: ['telemetry:read'] }) scopes!: string[];
  @ApiProperty({ type: String, nullable: true, example: null, description: 'Key it was made with and ends with.' })
  parent_id!: string | null;
  @ApiProperty({ enum: ['active', 'expired', 'revoked'], example: 'active' }) status!: 'active' | 'expired' | 'revoked';
  @ApiProperty({ format: 'date-time', example: '2025-11-03T01:54:00.000Z' }) created_at!: string;
  @ApiProperty({ type: String, nullable: true, format: 'date-time', example: '2026-02-01T01:54:00.000Z' })
  expires_at!: string | null;
  @ApiProperty({ type: String, nullable: true, format: 'date-time', example: '2025-11-03T02:10:00.000Z' })
  last_used_at!: string | null;
  @ApiProperty({ type: String, nullable: true, format: 'date-time', example: null }) revoked_at!: string | null;
}

export class TokenListDto {
  @ApiProperty({ type: [TokenDto] }) tokens!: TokenDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}

export class TokenCreatedDto {
  @ApiProperty({ example: TOKEN_ID }) token_id!: string;
  @ApiProperty({ example: 'nexus_tok_9fK2mQ7x_...', description: 'The token itself, shown only here.' }) token!: string;
  @ApiProperty({ format: 'date-time', example: '2026-02-01T01:54:00.000Z' }) expires_at!: string;
  @ApiProperty({ type: [String], example: ['telemetry:read', 'command:write'], description: 'As granted.' })
  scopes!: string[];
}

export class TokenRevokedDto {
  @ApiProperty({ example: TOKEN_ID }) token_id!: string;
  @ApiProperty({ enum: ['revoked'], example: 'revoked' }) status!: 'revoked';
  @ApiProperty({ format: 'date-time', example: '2025-11-03T02:10:00.000Z' }) revoked_at!: string;
}
