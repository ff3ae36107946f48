import { ApiProperty, ApiPropertyOptional, PartialType, PickType } from '@nestjs/swagger';
import { IsBoolean, IsIn, IsInt, IsOptional, IsString, Matches, Max, MaxLength, Min } from 'class-validator';
import { IsSigningSecret } from '../platform/crypto/index.js';
import { EVENT_NAME } from '../platform/events/index.js';
import { PaginationDto } from '../platform/http/index.js';
import { HOOK_SCHEMES, type HookScheme } from './hook-signature.js';

const NAME = /^(?=.{1,63}$)[a-z][a-z0-9]*(-[a-z0-9]+)*$/;

export class CreateHookDto {
  @ApiProperty({ example: 'github', maxLength: 63, description: 'Last part of the address; unique.' })
  @Matches(NAME, { message: 'name must be words of lower-case letters and digits joined by -, at most 63 characters' })
  name!: string;

  @ApiPropertyOptional({
    enum: HOOK_SCHEMES,
    example: 'github',
    description: 'How calls are signed; default `standard`. `nexus` and `github` sign the body alone, not its time.',
  })
  @IsOptional()
  @IsIn(HOOK_SCHEMES)
  scheme?: HookScheme;

  @ApiPropertyOptional({
    type: String,
    nullable: true,
    example: 'ci.pushed',
    description: 'Name of the events that calls become; default `hook.<name>.received`. Any other needs `event:emit`.',
  })
  @IsOptional()
  @MaxLength(100)
  @Matches(EVENT_NAME, { message: 'event_type must be a dotted lower-case name such as ci.pushed' })
  event_type?: string | null;

  @ApiPropertyOptional({
    example: 'a-secret-of-sixteen-characters-or-more',
    description:
      'At least 16 characters, or `whsec_` and base64 of 24 to 64 bytes. Left out: 32 random bytes, shown in this answer alone.',
  })
  @IsOptional()
  @IsSigningSecret()
  secret?: string;

  @ApiPropertyOptional({ example: true, description: 'False: every call is refused; default true.' })
  @IsOptional()
  @IsBoolean()
  enabled?: boolean;

  @ApiPropertyOptional({ example: 'Pushes to the main repository', maxLength: 1000 })
  @IsOptional()
  @IsString()
  @MaxLength(1000)
  description?: string;
}

/** What is left out stays as it is; `event_type: null` goes back to the hook's own. */
export class UpdateHookDto extends PartialType(
  PickType(CreateHookDto, ['scheme', 'event_type', 'enabled', 'description']),
) {}

export class HookDto {
  @ApiProperty({ example: 'hook_550e8400-e29b-41d4-a716-446655440000' }) hook_id!: string;
  @ApiProperty({ example: 'github' }) name!: string;
  @ApiProperty({ enum: HOOK_SCHEMES, example: 'github' }) scheme!: HookScheme;
  @ApiProperty({ example: 'hook.github.received' }) event_type!: string;
  @ApiProperty({ example: true }) enabled!: boolean;
  @ApiProperty({ example: 'Pushes to the main repository' }) description!: string;
  @ApiProperty({ example: 'user_550e8400-e29b-41d4-a716-446655440000' }) created_by!: string;
  @ApiProperty({ type: 'integer', minimum: 0, example: 12, description: 'Calls that became an event.' })
  received_count!: number;
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    example: 0,
    description: 'Calls whose signature was wrong; some seconds old.',
  })
  rejected_count!: number;
  @ApiProperty({ type: String, nullable: true, example: '2025-01-15T10:30:00.000Z' }) last_received_at!: string | null;
  @ApiProperty({
    type: String,
    nullable: true,
    example: null,
    description: 'Until then the secret before is good too.',
  })
  previous_secret_until!: string | null;
  @ApiProperty({ type: 'integer', minimum: 1, example: 1 }) version!: number;
  @ApiProperty({ example: '2025-01-15T10:30:00.000Z' }) created_at!: string;
  @ApiProperty({ example: '2025-01-15T10:30:00.000Z' }) updated_at!: string;
}

export class CreatedHookDto extends HookDto {
  @ApiPropertyOptional({
    example: 'whsec_3q2+7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=',
    description: 'Only when the server has made it; never shown again.',
  })
  secret?: string;
}

export class HookListDto {
  @ApiProperty({ type: [HookDto] }) hooks!: HookDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}

export class DeletedHookDto {
  @ApiProperty({ example: 'hook_550e8400-e29b-41d4-a716-446655440000' }) hook_id!: string;
  @ApiProperty({ example: 'deleted' }) status!: 'deleted';
}

export class RotateHookSecretDto extends PickType(CreateHookDto, ['secret']) {
  @ApiPropertyOptional({
    type: 'integer',
    example: 86_400,
    minimum: 0,
    maximum: 604_800,
    description:
      'Seconds for which the old secret stays valid; default a day. During such a time only 0 is taken: both older secrets end at once.',
  })
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(604_800)
  overlap_seconds?: number;
}

export class RotatedHookSecretDto {
  @ApiProperty({ example: 'hook_550e8400-e29b-41d4-a716-446655440000' }) hook_id!: string;
  @ApiPropertyOptional({ example: 'whsec_3q2+7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=' }) secret?: string;
  @ApiProperty({ example: '2025-01-16T10:30:00.000Z' }) previous_secret_until!: string;
}

export class ReceivedCallDto {
  @ApiProperty({ example: 'accepted' }) status!: 'accepted';
  @ApiProperty({ example: 'evt_550e8400-e29b-41d4-a716-446655440000' }) event_id!: string;
  @ApiProperty({ example: 'hook.github.received' }) event_type!: string;
  @ApiProperty({ example: false, description: 'The message had come before; nothing was done again.' })
  duplicate!: boolean;
}
