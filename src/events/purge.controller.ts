import { Body, Controller, Delete, Get, HttpCode, Post } from '@nestjs/common';
import { ApiAcceptedResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Actor } from '../platform/context/index.js';
import { Allow, CurrentActor, RateLimit, Wire } from '../platform/http/index.js';
import { IdParam } from '../platform/ids/index.js';
import { CreatePurgeDto, PurgeDto } from './purge.dto.js';
import { PurgeService } from './purge.service.js';

@ApiTags('events')
@Wire('envelope')
@Controller('events/purge')
export class PurgeController {
  constructor(private readonly purges: PurgeService) {}

  @Post()
  @HttpCode(202)
  @Allow('admin:system')
  @ApiOperation({ summary: 'Delete old events, or count them', operationId: 'purgeEvents' })
  @ApiAcceptedResponse({ type: PurgeDto })
  start(@CurrentActor() actor: Actor, @Body() dto: CreatePurgeDto): Promise<PurgeDto> {
    return this.purges.start(actor, dto);
  }

  @Get(':id')
  @Allow('admin:system')
  @RateLimit('polling')
  @ApiOperation({ summary: 'Show how far a purge has come', operationId: 'getPurge' })
  @ApiOkResponse({ type: PurgeDto })
  get(@IdParam('purge') id: string): Promise<PurgeDto> {
    return this.purges.get(id);
  }

  @Delete(':id')
  @Allow('admin:system')
  @ApiOperation({ summary: 'Cancel a purge; what was deleted stays so', operationId: 'cancelPurge' })
  @ApiOkResponse({ type: PurgeDto })
  cancel(@CurrentActor() actor: Actor, @IdParam('purge') id: string): Promise<PurgeDto> {
    return this.purges.cancel(actor, id);
  }
}
