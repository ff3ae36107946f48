import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IsIn, IsInt, IsISO8601, IsObject, IsOptional, IsString, Matches, Max, MaxLength, Min } from 'class-validator';
import { PageQueryDto, PaginationDto } from '../platform/http/index.js';
import { IsPublicId } from '../platform/ids/index.js';
import { COMMAND_STATES, COMMAND_STATUSES, type CommandState, type CommandStatus } from './command-status.js';

const PRIORITY_WORDS = ['low', 'normal', 'medium', 'high', 'critical'] as const;
const STATUS_WORDS = [...new Set([...COMMAND_STATUSES, ...COMMAND_STATES])];
const EXAMPLE_ID = 'cmd_550e8400-e29b-41d4-a716-446655440000';
const EXAMPLE_TIME = '2025-01-15T10:30:00.000Z';

export class CreateCommandDto {
  @ApiProperty({ example: 'system.info', maxLength: 100, description: 'A type of the catalogue or of the target.' })
  @IsString()
  @MaxLength(100)
  @Matches(/^[A-Za-z0-9][A-Za-z0-9._:-]*$/, { message: 'command_type must be letters, digits and . _ : -' })
  command_type!: string;

  @ApiProperty({
    example: 'local',
    maxLength: 1000,
    description: 'Agent id, agent name, `label:key=value[,key=value]`, `group:name`, or `nexus` for the server itself.',
  })
  @IsString()
  @MaxLength(1000)
  @Matches(/\S/, { message: 'target must not be empty' })
  target!: string;

  @ApiPropertyOptional({ type: 'object', additionalProperties: true, example: { verbose: true } })
  @IsOptional()
  @IsObject()
  parameters?: Record<string, unknown>;

  @ApiPropertyOptional({ enum: PRIORITY_WORDS, example: 'normal', description: '`medium` is another word for normal.' })
  @IsOptional()
  @IsIn(PRIORITY_WORDS)
  priority?: (typeof PRIORITY_WORDS)[number];

  @ApiPropertyOptional({
    type: 'integer',
    example: 300,
    minimum: 1,
    maximum: 3600,
    description: 'Seconds from creation; default 300.',
  })
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(3600)
  timeout_seconds?: number;

  @ApiPropertyOptional({ example: 'https://example.com/hooks/commands', description: 'Gets the result by POST.' })
  @IsOptional()
  @IsString()
  @MaxLength(2000)
  callback_url?: string;

  @ApiPropertyOptional({ example: 'deploy-2025-01-15', maxLength: 255, description: 'The same key: the same command.' })
  @IsOptional()
  @IsString()
  @Matches(/^[\x21-\x7e]{1,255}$/, { message: 'idempotency_key must be 1 to 255 printable characters' })
  idempotency_key?: string;
}

export class CancelCommandDto {
  @ApiPropertyOptional({ example: 'No longer needed', maxLength: 500 })
  @IsOptional()
  @IsString()
  @MaxLength(500)
  reason?: string;
}

export class CommandListQueryDto extends PageQueryDto {
  @ApiPropertyOptional({ enum: STATUS_WORDS, example: 'running' })
  @IsOptional()
  @IsIn(STATUS_WORDS)
  status?: CommandStatus | CommandState;

  @ApiPropertyOptional({ example: 'local', description: 'As asked for, or an agent by id or name.' })
  @IsOptional()
  @IsString()
  @MaxLength(1000)
  target?: string;

  @ApiPropertyOptional({ example: 'system.info' })
  @IsOptional()
  @IsString()
  @MaxLength(100)
  type?: string;

  @ApiPropertyOptional({ enum: PRIORITY_WORDS, example: 'high' })
  @IsOptional()
  @IsIn(PRIORITY_WORDS)
  priority?: (typeof PRIORITY_WORDS)[number];

  @ApiPropertyOptional({ example: EXAMPLE_ID, description: 'Children of this command.' })
  @IsOptional()
  @IsPublicId('cmd')
  parent?: string;

  @ApiPropertyOptional({ example: EXAMPLE_TIME, description: 'Created at or after.' })
  @IsOptional()
  @IsISO8601({ strict: true })
  from?: string;

  @ApiPropertyOptional({ example: EXAMPLE_TIME, description: 'Created before.' })
  @IsOptional()
  @IsISO8601({ strict: true })
  to?: string;
}

export class CommandErrorDto {
  @ApiProperty({ example: 'TIMEOUT' }) code!: string;
  @ApiProperty({ example: 'The command did not end within 300 s' }) message!: string;
}

export class CommandResultDto {
  @ApiProperty({ example: true }) success!: boolean;
  @ApiProperty({ example: 'Exit code 0' }) message!: string;
  @ApiProperty({ example: 'Linux host 6.1\n', description: 'First 64 KiB of the output as text.' }) output!: string;
  @ApiProperty({ type: 'integer', minimum: 0, example: 125 }) duration_ms!: number;
  @ApiProperty({ type: 'integer', nullable: true, example: 0 }) exit_code!: number | null;
  @ApiProperty({ type: String, nullable: true, example: null }) signal!: string | null;
  @ApiProperty({ type: 'object', additionalProperties: true, nullable: true, example: { hostname: 'web-1' } })
  data!: unknown;
  @ApiProperty({ type: CommandErrorDto, nullable: true, example: null }) error!: CommandErrorDto | null;
  @ApiProperty({ type: 'integer', minimum: 0, example: 15 }) output_bytes!: number;
  @ApiProperty({ example: false, description: 'Whether output is missing from the log.' }) output_truncated!: boolean;
  @ApiPropertyOptional({
    type: 'object',
    additionalProperties: { type: 'number' },
    example: { completed: 2 },
    description: 'Of a command with several targets: how many ended how.',
  })
  summary?: Record<string, number>;
}

export class TimelineEntryDto {
  @ApiProperty({ example: EXAMPLE_TIME }) at!: string;
  @ApiProperty({ example: 'delivered' }) status!: string;
  @ApiPropertyOptional({ example: 'No longer needed' }) detail?: string;
}

export class CommandDto {
  @ApiProperty({ example: EXAMPLE_ID }) command_id!: string;
  @ApiProperty({ example: 'system.info' }) command_type!: string;
  @ApiProperty({ example: 'local' }) target!: string;
  @ApiProperty({ type: String, nullable: true, example: 'agent_550e8400-e29b-41d4-a716-446655440000' })
  agent_id!: string | null;
  @ApiProperty({ enum: COMMAND_STATUSES, example: 'completed' }) status!: CommandStatus;
  @ApiProperty({ enum: COMMAND_STATES, example: 'completed', description: 'The finer state.' })
  substatus!: CommandState;
  @ApiProperty({ example: 'normal' }) priority!: string;
  @ApiProperty({ type: 'object', additionalProperties: true, example: {} }) parameters!: Record<string, unknown>;
  @ApiProperty({ type: 'integer', minimum: 1, example: 300 }) timeout_seconds!: number;
  @ApiProperty({ type: String, nullable: true, example: null }) callback_url!: string | null;
  @ApiProperty({ type: String, nullable: true, example: null, description: 'Set on each of several targets.' })
  parent_id!: string | null;
  @ApiProperty({ type: String, nullable: true, example: null, description: 'The command this one repeats.' })
  retry_of!: string | null;
  @ApiProperty({ example: 'user_550e8400-e29b-41d4-a716-446655440000' }) created_by!: string;
  @ApiProperty({ example: EXAMPLE_TIME }) created_at!: string;
  @ApiProperty({ type: String, nullable: true, example: EXAMPLE_TIME }) delivered_at!: string | null;
  @ApiProperty({ type: String, nullable: true, example: EXAMPLE_TIME }) started_at!: string | null;
  @ApiProperty({ type: String, nullable: true, example: EXAMPLE_TIME }) completed_at!: string | null;
  @ApiProperty({ type: 'integer', minimum: 0, example: 1, description: 'Runs begun.' }) attempts!: number;
}

export class CommandDetailDto extends CommandDto {
  @ApiProperty({ type: CommandResultDto, nullable: true }) result!: CommandResultDto | null;
  @ApiProperty({ type: [TimelineEntryDto] }) timeline!: TimelineEntryDto[];
}

export class CreatedCommandDto extends CommandDto {
  @ApiProperty({ example: EXAMPLE_TIME, description: 'From earlier commands of the type; else when its time is over.' })
  estimated_completion!: string;
  @ApiPropertyOptional({ type: [String], example: [EXAMPLE_ID], description: 'One command per target, when several.' })
  children?: string[];
}

export class CancelledCommandDto {
  @ApiProperty({ example: EXAMPLE_ID }) command_id!: string;
  @ApiProperty({ example: 'cancelled' }) status!: 'cancelled';
  @ApiProperty({ example: EXAMPLE_TIME }) cancelled_at!: string;
}

export class CommandListDto {
  @ApiProperty({ type: [CommandDto] }) commands!: CommandDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}

export class CallbackSecretDto {
  @ApiProperty({ example: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=' }) secret!: string;
  @ApiProperty({ example: 'hmac-sha256' }) algorithm!: string;
}
