import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Transform, Type } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayUnique,
  IsArray,
  IsBoolean,
  IsIn,
  IsInt,
  IsNumber,
  IsObject,
  IsOptional,
  IsString,
  Matches,
  Max,
  MaxLength,
  Min,
  ValidateIf,
  ValidateNested,
} from 'class-validator';
import { PageQueryDto } from '../platform/http/index.js';
import { IsPublicId } from '../platform/ids/index.js';
import { LONGEST_EXPRESSION } from './expression.js';
import {
  OPERATOR_SPELLINGS,
  type Operator,
  OPERATORS,
  operatorWord,
  SEVERITIES,
  type Severity,
} from './rule-definition.js';

const DAY = 86_400;
const SOURCE = {
  pattern: /^\P{Cc}{1,100}$/u,
  message: 'each of sources must be 1 to 100 characters; * stands for any',
};
const GROUP_KEY = {
  pattern: /^(source|tag\.\P{Cc}{1,200})$/u,
  message: 'each of group_by must be source or tag.<name>',
};

export class ClearConditionDto {
  @ApiPropertyOptional({
    enum: OPERATOR_SPELLINGS,
    example: 'lt',
    description: 'Default: the contrary of the rule’s operator.',
  })
  @Transform(({ value }) => operatorWord(value))
  @IsOptional()
  @IsIn(OPERATORS)
  operator?: Operator;

  @ApiPropertyOptional({ example: 70 })
  @IsOptional()
  @IsNumber()
  threshold?: number;

  @ApiPropertyOptional({ example: 'value < 70.0', maxLength: LONGEST_EXPRESSION, description: 'CEL, instead.' })
  @IsOptional()
  @IsString()
  @MaxLength(LONGEST_EXPRESSION)
  condition?: string;
}

export class RuleActionDto {
  @ApiProperty({
    enum: ['command', 'webhook', 'event'],
    example: 'command',
    description:
      '`command` runs a command once per alert; `webhook` tells one of the webhooks of the beginning and the end, whatever it is ' +
      'registered for; `event` also publishes `metric.threshold_exceeded`.',
  })
  @IsIn(['command', 'webhook', 'event'], { message: 'type must be command, webhook or event' })
  type!: 'command' | 'webhook' | 'event';

  @ApiPropertyOptional({ example: 'webhook_550e8400-e29b-41d4-a716-446655440000' })
  @ValidateIf((action: RuleActionDto) => action.type === 'webhook')
  @IsPublicId('webhook')
  webhook_id?: string;

  @ApiPropertyOptional({ example: 'restart', maxLength: 100 })
  @ValidateIf((action: RuleActionDto) => action.type === 'command')
  @Matches(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$/, { message: 'command_type must be letters, digits and . _ : -' })
  command_type?: string;

  @ApiPropertyOptional({
    example: '{{source}}',
    maxLength: 1000,
    description: 'As of a command. `{{source}}`, `{{value}}`, `{{tag.<name>}}` and others are filled in.',
  })
  @ValidateIf((action: RuleActionDto) => action.type === 'command')
  @IsString()
  @MaxLength(1000)
  @Matches(/\S/, { message: 'target must not be empty' })
  target?: string;

  @ApiPropertyOptional({ type: 'object', additionalProperties: true, example: { reason: '{{rule_name}}: {{value}}' } })
  @IsOptional()
  @IsObject()
  parameters?: Record<string, unknown>;

  @ApiPropertyOptional({ type: 'integer', example: 60, minimum: 1, maximum: 3600 })
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(3600)
  timeout_seconds?: number;
}

export class PutRuleDto {
  @ApiProperty({ example: 'CPU too high', maxLength: 200 })
  @IsString()
  @MaxLength(200)
  @Matches(/\S/, { message: 'name must not be empty' })
  name!: string;

  @ApiPropertyOptional({ example: 'Page the team on duty', maxLength: 2000 })
  @IsOptional()
  @IsString()
  @MaxLength(2000)
  description?: string;

  @ApiPropertyOptional({ example: true, description: 'Default true.' })
  @IsOptional()
  @IsBoolean()
  enabled?: boolean;

  @ApiPropertyOptional({ enum: SEVERITIES, example: 'critical', description: 'Default warning.' })
  @IsOptional()
  @IsIn(SEVERITIES)
  severity?: Severity;

  @ApiPropertyOptional({ example: 'system.metric', maxLength: 100 })
  @IsOptional()
  @Matches(/^[A-Za-z0-9._:-]{1,100}$/, { message: 'event_type must be 1 to 100 characters of A-Z a-z 0-9 . _ : -' })
  event_type?: string;

  @ApiPropertyOptional({ example: ['web-*'], description: 'Names of sources, `*` for any characters; default all.' })
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(100)
  @Matches(SOURCE.pattern, { each: true, message: SOURCE.message })
  sources?: string[];

  @ApiPropertyOptional({
    type: 'object',
    additionalProperties: { type: 'string' },
    example: { environment: 'production' },
  })
  @IsOptional()
  @IsObject()
  tags?: Record<string, string>;

  @ApiPropertyOptional({ example: 'cpu_usage', maxLength: 200 })
  @IsOptional()
  @IsString()
  @Matches(/^\P{Cc}{1,200}$/u, { message: 'metric_name must be 1 to 200 characters' })
  metric_name?: string;

  @ApiPropertyOptional({ enum: OPERATOR_SPELLINGS, example: 'gt', description: 'A sign is answered as its word.' })
  @Transform(({ value }) => operatorWord(value))
  @IsOptional()
  @IsIn(OPERATORS)
  operator?: Operator;

  @ApiPropertyOptional({ example: 90 })
  @IsOptional()
  @IsNumber()
  threshold?: number;

  @ApiPropertyOptional({
    example: 'value > 90.0 && tags.environment == "production"',
    maxLength: LONGEST_EXPRESSION,
    description: 'A CEL expression over the event, instead of operator and threshold.',
  })
  @IsOptional()
  @IsString()
  @MaxLength(LONGEST_EXPRESSION)
  condition?: string;

  @ApiPropertyOptional({
    type: 'integer',
    example: 300,
    minimum: 5,
    maximum: 7 * DAY,
    description: 'Seconds without data, instead.',
  })
  @IsOptional()
  @IsInt()
  @Min(5)
  @Max(7 * DAY)
  absent_for_seconds?: number;

  @ApiPropertyOptional({
    type: 'integer',
    example: 60,
    minimum: 0,
    maximum: DAY,
    description: 'Held so long before it is raised.',
  })
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(DAY)
  for_seconds?: number;

  @ApiPropertyOptional({
    type: 'integer',
    example: 3,
    minimum: 1,
    maximum: 1000,
    description: 'Held for so many events in a row, instead.',
  })
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(1000)
  times?: number;

  @ApiPropertyOptional({ type: ClearConditionDto, description: 'Default: whatever does not meet the condition.' })
  @IsOptional()
  @IsObject()
  @ValidateNested()
  @Type(() => ClearConditionDto)
  clear?: ClearConditionDto;

  @ApiPropertyOptional({
    type: 'integer',
    example: 0,
    minimum: 0,
    maximum: DAY,
    description: 'Clear so long before it is cleared.',
  })
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(DAY)
  clear_for_seconds?: number;

  @ApiPropertyOptional({
    type: 'integer',
    example: 0,
    minimum: 0,
    maximum: DAY,
    description: 'An alert lasts at least so long: a value that swings raises and clears once per window.',
  })
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(DAY)
  flap_window_seconds?: number;

  @ApiPropertyOptional({
    example: ['source'],
    description: '`source` and `tag.<name>`; one alert per value. Default source.',
  })
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(5)
  @ArrayUnique()
  @Matches(GROUP_KEY.pattern, { each: true, message: GROUP_KEY.message })
  group_by?: string[];

  @ApiPropertyOptional({ type: [RuleActionDto] })
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(5)
  @ValidateNested({ each: true })
  @Type(() => RuleActionDto)
  actions?: RuleActionDto[];
}

export class RuleListQueryDto extends PageQueryDto {
  @ApiPropertyOptional({ example: true })
  @IsOptional()
  @Transform(({ value }) => (value === 'true' ? true : value === 'false' ? false : (value as unknown)))
  @IsBoolean()
  enabled?: boolean;

  @ApiPropertyOptional({ enum: SEVERITIES, example: 'critical' })
  @IsOptional()
  @IsIn(SEVERITIES)
  severity?: Severity;

  @ApiPropertyOptional({ example: 'cpu_usage' })
  @IsOptional()
  @IsString()
  @MaxLength(200)
  metric_name?: string;

  @ApiPropertyOptional({ example: 'system.metric' })
  @IsOptional()
  @IsString()
  @MaxLength(100)
  event_type?: string;
}

export class TestRuleDto {
  @ApiProperty({ type: PutRuleDto })
  @IsObject()
  @ValidateNested()
  @Type(() => PutRuleDto)
  rule!: PutRuleDto;

  @ApiProperty({
    type: 'object',
    additionalProperties: true,
    description: 'A telemetry event, as it would be submitted.',
    example: { event_type: 'system.metric', source: 'web-1', data: { metric_name: 'cpu_usage', value: 95 } },
  })
  @IsObject()
  event!: Record<string, unknown>;
}
