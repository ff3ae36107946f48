import { Body, Controller, Get, HttpCode, Post, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Actor } from '../platform/context/index.js';
import { Allow, CurrentActor, resolvePage, RateLimit, Wire } from '../platform/http/index.js';
import { IdParam, publicId } from '../platform/ids/index.js';
import { messageOf } from './alert.js';
import type { Alert } from './alert.entity.js';
import { AlertDto, AlertListDto, AlertListQueryDto, AlertNoteDto } from './alerts.dto.js';
import { AlertsService } from './alerts.service.js';

const LIST_SIZES = { default: 20, max: 100 };

@ApiTags('alerts')
@Wire('raw')
@RateLimit('telemetry')
@Controller('telemetry/alerts')
export class AlertsController {
  constructor(private readonly alerts: AlertsService) {}

  @Get()
  @Allow('telemetry:read')
  @ApiOperation({ summary: 'List alerts, the newest first', operationId: 'listAlerts' })
  @ApiOkResponse({ type: AlertListDto })
  async list(@CurrentActor() actor: Actor, @Query() query: AlertListQueryDto): Promise<AlertListDto> {
    const { alerts, pagination } = await this.alerts.list(actor, query, resolvePage(query, LIST_SIZES));
    return { alerts: alerts.map(toAlertDto), pagination };
  }

  @Get(':id')
  @Allow('telemetry:read')
  @ApiOperation({ summary: 'Show an alert', operationId: 'getAlert' })
  @ApiOkResponse({ type: AlertDto })
  async get(@CurrentActor() actor: Actor, @IdParam('alert') id: string): Promise<AlertDto> {
    return toAlertDto(await this.alerts.get(actor, id));
  }

  @Post(':id/ack')
  @HttpCode(200)
  @Allow('telemetry:write')
  @ApiOperation({ summary: 'Say that somebody looks after an alert', operationId: 'acknowledgeAlert' })
  @ApiOkResponse({ type: AlertDto })
  async acknowledge(
    @CurrentActor() actor: Actor,
    @IdParam('alert') id: string,
    @Body() dto: AlertNoteDto,
  ): Promise<AlertDto> {
    return toAlertDto(await this.alerts.acknowledge(actor, id, dto.note));
  }

  @Post(':id/resolve')
  @HttpCode(200)
  @Allow('telemetry:write')
  @ApiOperation({ summary: 'End an alert by hand', operationId: 'resolveAlert' })
  @ApiOkResponse({ type: AlertDto })
  async resolve(
    @CurrentActor() actor: Actor,
    @IdParam('alert') id: string,
    @Body() dto: AlertNoteDto,
  ): Promise<AlertDto> {
    return toAlertDto(await this.alerts.resolve(actor, id, dto.note));
  }
}

function toAlertDto(alert: Alert): AlertDto {
  return {
    alert_id: publicId('alert', alert.id),
    rule_id: publicId('rule', alert.ruleId),
    rule_name: alert.ruleName,
    severity: alert.severity,
    status: alert.status,
    acknowledged: alert.acknowledgedAt !== null,
    condition: alert.condition,
    message: messageOf(alert),
    group: alert.grouping,
    source: alert.source,
    metric_name: alert.metricName,
    value: alert.value,
    unit: alert.unit,
    tags: alert.tags,
    event_id: alert.eventId,
    started_at: alert.startedAt.toISOString(),
    last_value: alert.lastValue,
    last_at: alert.lastAt?.toISOString() ?? null,
    count: alert.count,
    cleared_at: alert.clearedAt?.toISOString() ?? null,
    clear_reason: alert.clearReason,
    cleared_by: alert.clearedBy,
    acknowledged_at: alert.acknowledgedAt?.toISOString() ?? null,
    acknowledged_by: alert.acknowledgedBy,
    silenced: alert.silenced,
    notes: alert.notes,
    actions: Object.values(alert.actions),
  };
}
