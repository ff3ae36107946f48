import { Controller, Get, HttpCode, Post, Query } from '@nestjs/common';
import { ApiAcceptedResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Actor } from '../platform/context/index.js';
import { Allow, CurrentActor, RateLimit, resolvePage, Wire } from '../platform/http/index.js';
import { IdParam } from '../platform/ids/index.js';
import { WebhookDeliveries } from './webhook-deliveries.service.js';
import { DeliveryDto, DeliveryListDto, DeliveryQueryDto, RecoverQueryDto, RecoveryDto } from './webhooks.dto.js';

@ApiTags('webhooks')
@Wire('raw')
@RateLimit('webhooks')
@Controller('webhooks')
export class DeliveriesController {
  constructor(private readonly deliveries: WebhookDeliveries) {}

  @Get(':id/deliveries')
  @Allow('webhook:read')
  @ApiOperation({ summary: 'List deliveries with all attempts, the newest first', operationId: 'listDeliveries' })
  @ApiOkResponse({ type: DeliveryListDto })
  list(@IdParam('webhook') id: string, @Query() query: DeliveryQueryDto): Promise<DeliveryListDto> {
    return this.deliveries.list(id, query, resolvePage(query, { default: 20, max: 100 }));
  }

  @Post('deliveries/:id/redeliver')
  @HttpCode(202)
  @Allow('webhook:write')
  @ApiOperation({ summary: 'Send a delivery again, with the same id and event', operationId: 'redeliver' })
  @ApiAcceptedResponse({ type: DeliveryDto })
  redeliver(@IdParam('dlv') id: string): Promise<DeliveryDto> {
    return this.deliveries.redeliver(id);
  }

  @Post(':id/test')
  @HttpCode(202)
  @Allow('webhook:write')
  @ApiOperation({ summary: 'Send a webhook.ping', operationId: 'testWebhook' })
  @ApiAcceptedResponse({ type: DeliveryDto })
  test(@IdParam('webhook') id: string): Promise<DeliveryDto> {
    return this.deliveries.ping(id);
  }

  @Post(':id/recover')
  @HttpCode(202)
  @Allow('webhook:write')
  @ApiOperation({ summary: 'Deliver what failed or was missed since a time', operationId: 'recoverWebhook' })
  @ApiAcceptedResponse({ type: RecoveryDto })
  recover(
    @CurrentActor() actor: Actor,
    @IdParam('webhook') id: string,
    @Query() { since }: RecoverQueryDto,
  ): Promise<RecoveryDto> {
    return this.deliveries.recover(actor, id, since);
  }

  @Get(':id/recoveries/:recoveryId')
  @Allow('webhook:read')
  @ApiOperation({ summary: 'Show how far a recovery has come', operationId: 'getRecovery' })
  @ApiOkResponse({ type: RecoveryDto })
  recovery(@IdParam('webhook') id: string, @IdParam('job', 'recoveryId') recoveryId: string): Promise<RecoveryDto> {
    return this.deliveries.recovery(id, recoveryId);
  }
}
