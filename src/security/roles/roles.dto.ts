import { ApiProperty, ApiPropertyOptional, OmitType } from '@nestjs/swagger';
import { ArrayMaxSize, IsArray, IsOptional, IsString, Matches, MaxLength } from 'class-validator';
import { PaginationDto } from '../../platform/http/index.js';

export class CreateRoleDto {
  @ApiProperty({ example: 'release-manager', pattern: '^[a-z][a-z0-9_-]{1,49}$' })
  @IsString()
  @Matches(/^[a-z][a-z0-9_-]{1,49}$/, {
    message: 'name must be 2 to 50 lower-case letters, digits, - or _, and begin with a letter',
  })
  name!: string;

  @ApiPropertyOptional({ example: 'Runs deployments in staging' })
  @IsOptional()
  @IsString()
  @MaxLength(500)
  description?: string;

  @ApiProperty({
    type: [String],
    example: ['telemetry:read', 'command:write@env=staging'],
    description:
      '`command:write@label=value` limits commands to agents that carry the label, `ai:write` and `agent:admin` likewise changes.',
  })
  @IsArray()
  @ArrayMaxSize(100)
  @IsString({ each: true })
  @MaxLength(200, { each: true })
  scopes!: string[];
}

export class UpdateRoleDto extends OmitType(CreateRoleDto, ['name'] as const) {}

export class RoleDto {
  @ApiProperty({ example: 'release-manager' }) name!: string;
  @ApiProperty({ type: String, nullable: true, example: 'Runs deployments in staging' }) description!: string | null;
  @ApiProperty({ type: [String], example: ['telemetry:read', 'command:write@env=staging'] }) scopes!: string[];
  @ApiProperty({ example: false, description: 'Built-in roles cannot be changed.' }) built_in!: boolean;
}

export class RoleListDto {
  @ApiProperty({ type: [RoleDto] }) roles!: RoleDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}

export class RolesAndPermissionsDto extends RoleListDto {
  @ApiProperty({ type: [String], example: ['telemetry:read', 'telemetry:write'] }) all_permissions!: string[];
}

export class RoleDeletedDto {
  @ApiProperty({ example: 'release-manager' }) name!: string;
  @ApiProperty({ enum: ['deleted'], example: 'deleted' }) status!: 'deleted';
  @ApiProperty({ format: 'date-time', example: '2025-11-03T02:10:00.000Z' }) deleted_at!: string;
}
