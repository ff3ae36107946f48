import { Body, Controller, Delete, Get, HttpCode, Post, Put, Query, Res } from '@nestjs/common';
import { ApiBody, ApiCreatedResponse, ApiHeader, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Response } from 'express';
import type { Actor } from '../platform/context/index.js';
import { Allow, CurrentActor, IfMatch, resolvePage, versionETag, RateLimit, Wire } from '../platform/http/index.js';
import { IdParam, publicId } from '../platform/ids/index.js';
import type { AlertRule } from './alert-rule.entity.js';
import { RuleTrial } from './rule-trial.js';
import { RULE_EXAMPLES, RULE_TEST_EXAMPLES } from './rule-examples.js';
import { DeletedRuleDto, RuleDto, RuleListDto, RuleTestDto } from './rule-answers.dto.js';
import { PutRuleDto, RuleListQueryDto, TestRuleDto } from './rules.dto.js';
import { RulesService } from './rules.service.js';

const LIST_SIZES = { default: 20, max: 100 };

@ApiTags('alerts')
@Wire('raw')
@RateLimit('telemetry')
@Controller('telemetry/rules')
export class RulesController {
  constructor(
    private readonly rules: RulesService,
    private readonly trial: RuleTrial,
  ) {}

  @Post()
  @Allow('telemetry:admin')
  @ApiOperation({ summary: 'Add an alert rule', operationId: 'createAlertRule' })
  @ApiBody({ type: PutRuleDto, examples: RULE_EXAMPLES })
  @ApiCreatedResponse({ type: RuleDto })
  async create(
    @CurrentActor() actor: Actor,
    @Body() dto: PutRuleDto,
    @Res({ passthrough: true }) response: Response,
  ): Promise<RuleDto> {
    return tagged(await this.rules.create(actor, dto), response);
  }

  @Get()
  @Allow('telemetry:read')
  @ApiOperation({ summary: 'List alert rules, the newest first', operationId: 'listAlertRules' })
  @ApiOkResponse({ type: RuleListDto })
  async list(@CurrentActor() actor: Actor, @Query() query: RuleListQueryDto): Promise<RuleListDto> {
    const { rules, pagination } = await this.rules.list(actor, query, resolvePage(query, LIST_SIZES));
    return { rules: rules.map(toRuleDto), pagination };
  }

  @Post('test')
  @HttpCode(200)
  @Allow('telemetry:admin')
  @ApiOperation({ summary: 'Judge an event by a rule without storing either', operationId: 'testAlertRule' })
  @ApiBody({ type: TestRuleDto, examples: RULE_TEST_EXAMPLES })
  @ApiOkResponse({ type: RuleTestDto })
  test(@CurrentActor() actor: Actor, @Body() dto: TestRuleDto): RuleTestDto {
    return this.trial.judge(actor, dto);
  }

  @Get(':id')
  @Allow('telemetry:read')
  @ApiOperation({ summary: 'Show an alert rule', operationId: 'getAlertRule' })
  @ApiOkResponse({ type: RuleDto })
  async get(
    @CurrentActor() actor: Actor,
    @IdParam('rule') id: string,
    @Res({ passthrough: true }) response: Response,
  ): Promise<RuleDto> {
    return tagged(await this.rules.get(actor, id), response);
  }

  @Put(':id')
  @Allow('telemetry:admin')
  @ApiOperation({ summary: 'Replace an alert rule', operationId: 'replaceAlertRule' })
  @ApiHeader({ name: 'If-Match', required: false, schema: { type: 'string', example: '"v3"' } })
  @ApiBody({ type: PutRuleDto, examples: RULE_EXAMPLES })
  @ApiOkResponse({ type: RuleDto })
  async replace(
    @CurrentActor() actor: Actor,
    @IdParam('rule') id: string,
    @Body() dto: PutRuleDto,
    @IfMatch() expected: number | undefined,
    @Res({ passthrough: true }) response: Response,
  ): Promise<RuleDto> {
    return tagged(await this.rules.replace(actor, id, dto, expected), response);
  }

  @Delete(':id')
  @Allow('telemetry:admin')
  @ApiOperation({ summary: 'Delete an alert rule; its open alerts end', operationId: 'deleteAlertRule' })
  @ApiOkResponse({ type: DeletedRuleDto })
  async remove(@CurrentActor() actor: Actor, @IdParam('rule') id: string): Promise<DeletedRuleDto> {
    await this.rules.remove(actor, id);
    return { rule_id: publicId('rule', id), status: 'deleted' };
  }
}

function tagged(rule: AlertRule, response: Response): RuleDto {
  response.setHeader('ETag', versionETag(rule.version));
  return toRuleDto(rule);
}

function toRuleDto(rule: AlertRule): RuleDto {
  return {
    rule_id: publicId('rule', rule.id),
    name: rule.name,
    description: rule.description,
    enabled: rule.enabled,
    severity: rule.severity,
    ...rule.definition,
    ...(rule.suspendedActions.length > 0 ? { suspended_actions: rule.suspendedActions } : {}),
    version: rule.version,
    created_by: rule.createdBy,
    updated_by: rule.updatedBy,
    created_at: rule.createdAt.toISOString(),
    updated_at: rule.updatedAt.toISOString(),
  };
}
