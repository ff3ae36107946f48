import { Body, Controller, Delete, Get, HttpCode, Param, Post } from '@nestjs/common';
import { ApiAcceptedResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Actor } from '../platform/context/index.js';
import { Allow, CurrentActor, PublicId, RateLimit, Wire } from '../platform/http/index.js';
import { CreateReplayDto, ReplayDto } from './replay.dto.js';
import { ReplayService } from './replay.service.js';

const REPLAY = new PublicId('replay');

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
  get(@Param('id', REPLAY) id: string): Promise<ReplayDto> {
    return this.replays.get(id);
  }

  @Delete(':id')
  @Allow('admin:system')
  @ApiOperation({ summary: 'Cancel a replay; what was begun is delivered all the same', operationId: 'cancelReplay' })
  @ApiOkResponse({ type: ReplayDto })
  cancel(@CurrentActor() actor: Actor, @Param('id', REPLAY) id: string): Promise<ReplayDto> {
    return this.replays.cancel(actor, id);
  }
}
