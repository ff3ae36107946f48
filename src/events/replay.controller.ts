import { Body, Controller, Delete, Get, HttpCode, Post } from '@nestjs/common';
import { ApiAcceptedResponse, ApiBody, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Actor } from '../platform/context/index.js';
import { Allow, CurrentActor, RateLimit, Wire } from '../platform/http/index.js';
import { IdParam } from '../platform/ids/index.js';
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
  @ApiBody({
    type: CreateReplayDto,
    examples: {
      period: {
        summary: 'What has happened in a time, to all webhooks',
        value: {
          event_filter: {
            event_types: ['orders.*', '*.failed'],
            start_time: '2025-01-15T00:00:00Z',
            end_time: '2025-01-16T00:00:00Z',
          },
        },
      },
      one_webhook: {
        summary: 'What belongs together, to one webhook, one event after the other',
        value: {
          event_filter: { correlation_id: 'checkout-93f1' },
          target_subscribers: ['webhook_550e8400-e29b-41d4-a716-446655440000'],
          replay_mode: 'paced',
          delay_between_events_ms: 250,
        },
      },
    },
  })
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
