import { Controller, Get, HttpCode, Post, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Actor } from '../../platform/context/index.js';
import { Allow, CurrentActor, Wire } from '../../platform/http/index.js';
import { IdParam } from '../../platform/ids/index.js';
import { AlertQueryDto, SecurityAlertDto, SecurityAlertListDto } from './alerts.dto.js';
import { toAlertDto } from './security-alert.js';
import { SecurityAlerts } from './security-alerts.js';

@ApiTags('security')
@Wire('raw')
@Controller('security/alerts')
export class SecurityAlertsController {
  constructor(private readonly alerts: SecurityAlerts) {}

  @Get()
  @Allow('security:read')
  @ApiOperation({
    summary: 'List security alerts, the newest first',
    description:
      'Bursts of failed logins, misused keys, rate abuse and changes of rights. Each is also a `security.alert` event.',
    operationId: 'listSecurityAlerts',
  })
  @ApiOkResponse({ type: SecurityAlertListDto })
  async list(@Query() query: AlertQueryDto): Promise<SecurityAlertListDto> {
    const { alerts, pagination } = await this.alerts.list(query);
    return { alerts: alerts.map(toAlertDto), pagination };
  }

  @Get(':id')
  @Allow('security:read')
  @ApiOperation({ summary: 'Show a security alert', operationId: 'getSecurityAlert' })
  @ApiOkResponse({ type: SecurityAlertDto })
  async get(@IdParam('alert') id: string): Promise<SecurityAlertDto> {
    return toAlertDto(await this.alerts.get(id));
  }

  @Post(':id/acknowledge')
  @HttpCode(200)
  @Allow('security:admin')
  @ApiOperation({ summary: 'Note that somebody looks after an alert', operationId: 'acknowledgeSecurityAlert' })
  @ApiOkResponse({ type: SecurityAlertDto })
  async acknowledge(@CurrentActor() actor: Actor, @IdParam('alert') id: string): Promise<SecurityAlertDto> {
    return toAlertDto(await this.alerts.acknowledge(actor, id));
  }
}
