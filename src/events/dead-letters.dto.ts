import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IsIn, IsOptional, IsString, Matches, MaxLength } from 'class-validator';
import { PageQueryDto, PaginationDto } from '../platform/http/index.js';

const HANDLER = /^[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)+$/;
const HANDLER_RULE = 'handler must be the name of a handler, such as commands.dispatch';
export const DEAD_LETTER_STATUSES = ['failed', 'retrying'] as const;

export class DeadLetterQueryDto extends PageQueryDto {
  @ApiPropertyOptional({ example: 'commands.dispatch', maxLength: 100 })
  @IsOptional()
  @MaxLength(100)
  @Matches(HANDLER, { message: HANDLER_RULE })
  handler?: string;

  @ApiPropertyOptional({ example: 'command.queued', maxLength: 100 })
  @IsOptional()
  @IsString()
  @MaxLength(100)
  event_type?: string;

  @ApiPropertyOptional({ enum: DEAD_LETTER_STATUSES, example: 'failed' })
  @IsOptional()
  @IsIn(DEAD_LETTER_STATUSES)
  status?: (typeof DEAD_LETTER_STATUSES)[number];
}

export class DeadLetterDto {
  @ApiProperty({ example: 'dead_550e8400-e29b-41d4-a716-446655440000' }) dead_letter_id!: string;
  @ApiProperty({ example: 'commands.dispatch' }) handler!: string;
  @ApiProperty({ example: 'evt_550e8400-e29b-41d4-a716-446655440000' }) event_id!: string;
  @ApiProperty({ example: 'command.queued' }) event_type!: string;
  @ApiProperty({
    enum: DEAD_LETTER_STATUSES,
    example: 'failed',
    description: '`retrying`: on its way to the handler again; gone from here once that has taken it.',
  })
  status!: (typeof DEAD_LETTER_STATUSES)[number];
  @ApiProperty({ example: 'The job queues do not answer', description: 'Of the last attempt.' }) error!: string;
  @ApiProperty({ type: 'integer', minimum: 0, example: 10, description: 'In all, those of retries included.' })
  attempts!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 0 }) retries!: number;
  @ApiProperty({ example: '2025-01-15T10:30:00.000Z' }) first_failed_at!: string;
  @ApiProperty({ example: '2025-01-15T10:30:00.000Z' }) failed_at!: string;
}

class DeadEventDto {
  @ApiProperty({ example: 'evt_550e8400-e29b-41d4-a716-446655440000' }) event_id!: string;
  @ApiProperty({ example: 'command.queued' }) event_type!: string;
  @ApiProperty({ example: '2025-01-15T10:20:00.000Z' }) timestamp!: string;
  @ApiProperty({ type: String, nullable: true, example: 'cmd_550e8400-e29b-41d4-a716-446655440000' }) subject!:
    string | null;
  @ApiProperty({
    type: 'object',
    additionalProperties: true,
    example: { command_id: 'cmd_550e8400-e29b-41d4-a716-446655440000' },
  })
  data!: Record<string, unknown>;
}

export class DeadLetterDetailDto extends DeadLetterDto {
  @ApiProperty({ type: DeadEventDto }) event!: DeadEventDto;
}

export class DeadLetterListDto {
  @ApiProperty({ type: [DeadLetterDto] }) dead_letters!: DeadLetterDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}

export class RetryDeadLettersDto {
  @ApiProperty({ example: 'commands.dispatch', maxLength: 100, description: 'All that failed of this handler.' })
  @MaxLength(100)
  @Matches(HANDLER, { message: HANDLER_RULE })
  handler!: string;
}

export class RetriedDeadLettersDto {
  @ApiProperty({ example: 'commands.dispatch' }) handler!: string;
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    example: 42,
    description: 'On their way to the handler now; at most 10,000 by one request.',
  })
  retrying!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 0, description: 'Ask again for these.' }) remaining!: number;
}

export class DiscardedDeadLetterDto {
  @ApiProperty({ example: 'dead_550e8400-e29b-41d4-a716-446655440000' }) dead_letter_id!: string;
  @ApiProperty({ example: 'discarded' }) status!: 'discarded';
}
