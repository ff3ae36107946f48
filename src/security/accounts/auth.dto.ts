import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import {
  ArrayMaxSize,
  ArrayMinSize,
  IsArray,
  IsBoolean,
  IsOptional,
  IsString,
  MaxLength,
  MinLength,
} from 'class-validator';
import { PaginationDto } from '../../platform/http/index.js';

const USER_ID = 'user_7a1e3c52-6c0b-4b0e-9d0a-3f8f2a5d9a10';
const SESSION_ID = 'sess_1b4e28ba-2fa1-41d2-883f-0016d3cca427';
const REFRESH_TOKEN = 'nexus_refresh_9fK2mQ7x_...';
const ACCESS_TOKEN = 'eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9...';

export class LoginDto {
  @ApiProperty({ example: 'admin' })
  @IsString()
  @MinLength(1)
  @MaxLength(255)
  username!: string;

  @ApiProperty({ example: 'correct-horse-battery-staple', format: 'password' })
  @IsString()
  @MinLength(1)
  @MaxLength(256)
  password!: string;

  @ApiPropertyOptional({
    example: true,
    description:
      'True (default): the login lasts 30 days and ends when it is not refreshed for 14. False: it lasts a day.',
  })
  @IsOptional()
  @IsBoolean()
  remember_me?: boolean;
}

export class RefreshDto {
  @ApiProperty({ example: REFRESH_TOKEN })
  @IsString()
  @MinLength(1)
  @MaxLength(256)
  refresh_token!: string;
}

export class ChangePasswordDto {
  @ApiProperty({ example: 'the password until now', format: 'password' })
  @IsString()
  @MinLength(1)
  @MaxLength(256)
  current_password!: string;

  @ApiProperty({ example: 'three quiet otters paddle', format: 'password', description: '15 to 128 characters.' })
  @IsString()
  @MinLength(1)
  @MaxLength(256)
  new_password!: string;

  @ApiProperty({ example: 'three quiet otters paddle', format: 'password' })
  @IsString()
  @MaxLength(256)
  confirm_password!: string;
}

export class CheckPermissionsDto {
  @ApiProperty({ type: [String], example: ['telemetry:read', 'command:write'] })
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(200)
  @IsString({ each: true })
  @MaxLength(100, { each: true })
  permissions!: string[];
}

export class ProfileDto {
  @ApiProperty({ type: String, nullable: true, example: 'Ada Lovelace' }) full_name!: string | null;
}

/** The user, or the agent, that acts. */
export class UserDto {
  @ApiProperty({ example: USER_ID }) id!: string;
  @ApiProperty({ enum: ['user', 'agent'], example: 'user' }) type!: 'user' | 'agent';
  @ApiProperty({ example: 'admin' }) username!: string;
  @ApiProperty({ type: String, nullable: true, example: 'ada@example.com' }) email!: string | null;
  @ApiProperty({ enum: ['active', 'suspended', 'deleted'], example: 'active' }) status!: string;
  @ApiProperty({ type: [String], example: ['admin'] }) roles!: string[];
  @ApiProperty({ type: ProfileDto }) profile!: ProfileDto;
  @ApiProperty({ type: 'object', additionalProperties: true, example: { theme: 'dark' } }) preferences!: object;
  @ApiProperty({ type: 'object', additionalProperties: true, example: {} }) metadata!: object;
  @ApiProperty({ type: String, nullable: true, format: 'date-time', example: '2025-11-03T01:54:00.000Z' })
  created_at!: string | null;
  @ApiProperty({ type: String, nullable: true, format: 'date-time', example: '2025-11-03T01:54:00.000Z' })
  last_login_at!: string | null;
}

export class TokensDto {
  @ApiProperty({ example: ACCESS_TOKEN }) access_token!: string;
  @ApiProperty({ example: REFRESH_TOKEN, description: 'Good for one use.' }) refresh_token!: string;
  @ApiProperty({ enum: ['Bearer'], example: 'Bearer' }) token_type!: 'Bearer';
  @ApiProperty({ type: 'integer', minimum: 0, example: 3600, description: 'Seconds until the access token expires.' })
  expires_in!: number;
}

export class LoginSessionDto {
  @ApiProperty({ example: SESSION_ID }) session_id!: string;
  @ApiProperty({ format: 'date-time', example: '2025-11-04T01:54:00.000Z' }) expires_at!: string;
}

export class LoginResultDto {
  @ApiProperty({ type: UserDto }) user!: UserDto;
  @ApiProperty({ type: TokensDto }) tokens!: TokensDto;
  @ApiProperty({ type: LoginSessionDto }) session!: LoginSessionDto;
}

export class MessageDto {
  @ApiProperty({ example: 'Done' }) message!: string;
}

export class TokenInfoDto {
  @ApiProperty({ enum: ['user', 'key', 'token', 'agent'], example: 'user', description: 'Kind of credential.' })
  type!: string;
  @ApiProperty({ example: SESSION_ID }) credential_id!: string;
  @ApiProperty({ type: [String], example: ['admin'] }) roles!: string[];
  @ApiProperty({ type: [String], example: ['*'], description: 'What the credential may do now.' }) scopes!: string[];
  @ApiProperty({ type: String, nullable: true, format: 'date-time', example: '2025-11-03T01:54:00.000Z' })
  issued_at!: string | null;
  @ApiProperty({ type: String, nullable: true, format: 'date-time', example: '2025-11-03T02:54:00.000Z' })
  expires_at!: string | null;
}

export class VerifyDto {
  @ApiProperty({ example: true }) valid!: boolean;
  @ApiProperty({ type: UserDto }) user!: UserDto;
  @ApiProperty({ type: TokenInfoDto }) token_info!: TokenInfoDto;
}

export class MeDto {
  @ApiProperty({ type: UserDto }) user!: UserDto;
}

export class PermissionsDto {
  @ApiProperty({
    type: 'object',
    additionalProperties: { type: 'boolean' },
    example: { 'telemetry:read': true, 'command:write': false },
  })
  permissions!: Record<string, boolean>;
  @ApiProperty({ example: false }) has_all!: boolean;
}

export class SessionDto {
  @ApiProperty({ example: SESSION_ID }) id!: string;
  @ApiProperty({ type: String, nullable: true, example: 'Mozilla/5.0 (X11; Linux x86_64)' }) device!: string | null;
  @ApiProperty({ type: String, nullable: true, example: '192.168.1.100' }) ip!: string | null;
  @ApiProperty({ format: 'date-time', example: '2025-11-03T01:54:00.000Z' }) created_at!: string;
  @ApiProperty({ format: 'date-time', example: '2025-11-03T02:10:00.000Z', description: 'To the minute.' })
  last_activity!: string;
  @ApiProperty({ format: 'date-time', example: '2025-11-04T01:54:00.000Z' }) expires_at!: string;
  @ApiProperty({ example: true, description: 'The session of this request.' }) is_current!: boolean;
}

export class SessionListDto {
  @ApiProperty({ type: [SessionDto] }) sessions!: SessionDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}

export class SessionsEndedDto extends MessageDto {
  @ApiProperty({ type: 'integer', minimum: 0, example: 2, description: 'Sessions that were live until now.' })
  ended!: number;
}

export class KeySetDto {
  @ApiProperty({
    type: 'array',
    items: { type: 'object', additionalProperties: { type: 'string' } },
    example: [
      { kty: 'OKP', crv: 'Ed25519', x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo', alg: 'EdDSA', use: 'sig' },
    ],
  })
  keys!: object[];
}
