import { Controller, Get, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Actor } from '../platform/context/index.js';
import { Allow, CurrentActor, Wire } from '../platform/http/index.js';
import { EventHealthDto, EventStatsDto, EventStatsQueryDto } from './event-stats.dto.js';
import { EventStats } from './event-stats.service.js';

@ApiTags('events')
@Wire('envelope')
@Controller('events')
export class EventStatsController {
  constructor(private readonly events: EventStats) {}

  @Get('stats')
  @Allow('event:read')
  @ApiOperation({ summary: 'Count the events you may read', operationId: 'getEventStats' })
  @ApiOkResponse({ type: EventStatsDto })
  stats(@CurrentActor() actor: Actor, @Query() query: EventStatsQueryDto): Promise<EventStatsDto> {
    return this.events.count(actor, query);
  }

  @Get('health')
  @Allow('event:read')
  @ApiOperation({ summary: 'Whether events reach their subscribers', operationId: 'getEventHealth' })
  @ApiOkResponse({ type: EventHealthDto })
  health(): Promise<EventHealthDto> {
    return this.events.health();
  }
}
