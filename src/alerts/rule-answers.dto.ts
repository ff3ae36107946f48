import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { PaginationDto } from '../platform/http/index.js';
import { OPERATORS, type Operator, SEVERITIES, type Severity } from './rule-definition.js';

const EXAMPLE_ID = 'rule_550e8400-e29b-41d4-a716-446655440000';
const EXAMPLE_TIME = '2025-01-15T10:30:00.000Z';

class StoredActionDto {
  @ApiProperty({ enum: ['command', 'webhook', 'event'], example: 'command' }) type!: string;
  @ApiPropertyOptional({ example: 'webhook_550e8400-e29b-41d4-a716-446655440000' }) webhook_id?: string;
  @ApiPropertyOptional({ example: 'restart' }) command_type?: string;
  @ApiPropertyOptional({ example: '{{source}}' }) target?: string;
  @ApiPropertyOptional({ type: 'object', additionalProperties: true, example: { reason: '{{rule_name}}: {{value}}' } })
  parameters?: Record<string, unknown>;
  @ApiPropertyOptional({ type: 'integer', nullable: true, minimum: 1, example: 60 }) timeout_seconds?: number | null;
}

class RuleClearDto {
  @ApiProperty({ enum: OPERATORS, nullable: true, example: 'lt' }) operator!: Operator | null;
  @ApiProperty({ type: Number, nullable: true, example: 70 }) threshold!: number | null;
  @ApiProperty({ type: String, nullable: true, example: null }) condition!: string | null;
}

export class RuleDto {
  @ApiProperty({ example: EXAMPLE_ID }) rule_id!: string;
  @ApiProperty({ example: 'CPU too high' }) name!: string;
  @ApiProperty({ example: 'Page the team on duty' }) description!: string;
  @ApiProperty({ example: true }) enabled!: boolean;
  @ApiProperty({ enum: SEVERITIES, example: 'critical' }) severity!: Severity;
  @ApiProperty({ type: String, nullable: true, example: 'system.metric' }) event_type!: string | null;
  @ApiProperty({ example: ['web-*'] }) sources!: string[];
  @ApiProperty({ type: 'object', additionalProperties: { type: 'string' }, example: {} }) tags!: Record<string, string>;
  @ApiProperty({ type: String, nullable: true, example: 'cpu_usage' }) metric_name!: string | null;
  @ApiProperty({ enum: OPERATORS, nullable: true, example: 'gt' }) operator!: Operator | null;
  @ApiProperty({ type: Number, nullable: true, example: 90 }) threshold!: number | null;
  @ApiProperty({ type: String, nullable: true, example: null }) condition!: string | null;
  @ApiProperty({ type: 'integer', minimum: 0, nullable: true, example: null }) absent_for_seconds!: number | null;
  @ApiProperty({ type: 'integer', minimum: 0, example: 60 }) for_seconds!: number;
  @ApiProperty({ type: 'integer', minimum: 1, example: 1 }) times!: number;
  @ApiProperty({ type: RuleClearDto, nullable: true }) clear!: RuleClearDto | null;
  @ApiProperty({ type: 'integer', minimum: 0, example: 0 }) clear_for_seconds!: number;
  @ApiProperty({ type: 'integer', minimum: 0, example: 0 }) flap_window_seconds!: number;
  @ApiProperty({ example: ['source'] }) group_by!: string[];
  @ApiProperty({ type: [StoredActionDto] }) actions!: StoredActionDto[];
  @ApiPropertyOptional({
    enum: ['command', 'webhook'],
    isArray: true,
    example: ['command'],
    description:
      'Types of actions that are not carried out, as the owner lost the right to them; until the rule is written again.',
  })
  suspended_actions?: string[];
  @ApiProperty({ type: 'integer', minimum: 1, example: 1 }) version!: number;
  @ApiProperty({ example: 'user_550e8400-e29b-41d4-a716-446655440000' }) created_by!: string;
  @ApiProperty({ example: 'user_550e8400-e29b-41d4-a716-446655440000' }) updated_by!: string;
  @ApiProperty({ example: EXAMPLE_TIME }) created_at!: string;
  @ApiProperty({ example: EXAMPLE_TIME }) updated_at!: string;
}

export class RuleListDto {
  @ApiProperty({ type: [RuleDto] }) rules!: RuleDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}

export class DeletedRuleDto {
  @ApiProperty({ example: EXAMPLE_ID }) rule_id!: string;
  @ApiProperty({ example: 'deleted' }) status!: 'deleted';
}

export class RuleTestDto {
  @ApiProperty({ example: true, description: 'Whether the rule is about this event.' }) concerned!: boolean;
  @ApiProperty({
    enum: ['breach', 'clear', 'between', 'silent'],
    nullable: true,
    example: 'breach',
    description: 'The condition holds, the clear condition holds, neither, or the event lacks what they ask for.',
  })
  verdict!: string | null;
  @ApiProperty({
    type: 'object',
    additionalProperties: { type: 'string' },
    nullable: true,
    example: { source: 'web-1' },
  })
  group!: Record<string, string> | null;
}
