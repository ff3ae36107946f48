import { Body, Controller, Get, HttpCode, Post, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Actor } from '../platform/context/index.js';
import { Allow, CurrentActor, IdParam, publicId, resolvePage, RateLimit, Wire } from '../platform/http/index.js';
import { type Alert, messageOf } from './alert.js';
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
  const { id, rule_id, group_id: _group, notified_at: _notified, grouping, ...rest } = alert;
  return {
    alert_id: publicId('alert', id),
    rule_id: publicId('rule', rule_id),
    ...rest,
    acknowledged: alert.acknowledged_at !== null,
    message: messageOf(alert),
    group: grouping,
    count: Number(alert.count),
    started_at: alert.started_at.toISOString(),
    last_at: alert.last_at?.toISOString() ?? null,
    cleared_at: alert.cleared_at?.toISOString() ?? null,
    acknowledged_at: alert.acknowledged_at?.toISOString() ?? null,
    actions: Object.values(alert.actions),
  };
}
