import { Body, Controller, Delete, Get, HttpCode, Post } from '@nestjs/common';
import { ApiAcceptedResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Actor } from '../platform/context/index.js';
import { Allow, CurrentActor, IdParam, RateLimit, Wire } from '../platform/http/index.js';
import { CreateReplayDto, ReplayDto } from './replay.dto.js';
import { ReplayService } from './replay.service.js';

@ApiTags('events')
@Wire('envelope')
@Controller('events/replay')
export class ReplayController {
  constructor(private readonly replays: ReplayService) {}

  @Post()
  @HttpCode(202)
  @Allow('admin:system')
  @ApiOperation({ summary: 'Tell webhooks and handlers again what has happened', operationId: 'replayEvents' })
  @ApiAcceptedResponse({ type: ReplayDto })
  start(@CurrentActor() actor: Actor, @Body() dto: CreateReplayDto): Promise<ReplayDto> {
    return this.replays.start(actor, dto);
  }

  @Get(':id')
  @Allow('admin:system')
  @RateLimit('polling')
  @ApiOperation({ summary: 'Show how far a replay has come', operationId: 'getReplay' })
  @ApiOkResponse({ type: ReplayDto })
  get(@IdParam('replay') id: string): Promise<ReplayDto> {
    return this.replays.get(id);
  }

  @Delete(':id')
  @Allow('admin:system')
  @ApiOperation({ summary: 'Cancel a replay; what was begun is delivered all the same', operationId: 'cancelReplay' })
  @ApiOkResponse({ type: ReplayDto })
  cancel(@CurrentActor() actor: Actor, @IdParam('replay') id: string): Promise<ReplayDto> {
    return this.replays.cancel(actor, id);
  }
}
