import { Body, Controller, Get, Post, Query } from '@nestjs/common';
import { ApiCreatedResponse, ApiGoneResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Actor } from '../platform/context/index.js';
import { AppError } from '../platform/errors/index.js';
import { Allow, CurrentActor, RateLimit, resolvePage, Wire } from '../platform/http/index.js';
import { IdParam } from '../platform/ids/index.js';
import { EventQueries } from './event-queries.js';
import type { EventCriteria } from './events.queries.js';
import { EmitEventDto, EmittedEventAnswerDto, EventDetailDto, EventListDto, EventQueryDto } from './events.dto.js';
import { EventsService } from './events.service.js';

/** To be registered after the other controllers of these paths: `:id` takes every single word. */
@ApiTags('events')
@Wire('envelope')
@Controller('events')
export class EventsController {
  constructor(
    private readonly events: EventsService,
    private readonly queries: EventQueries,
  ) {}

  @Post()
  @Allow('event:emit')
  @RateLimit('events')
  @ApiOperation({ summary: 'Emit an event of your own', operationId: 'emitEvent' })
  @ApiCreatedResponse({ type: EmittedEventAnswerDto })
  emit(@CurrentActor() actor: Actor, @Body() dto: EmitEventDto): Promise<EmittedEventAnswerDto> {
    return this.events.emit(actor, dto);
  }

  @Get()
  @Allow('event:read')
  @ApiOperation({ summary: 'List the events you may read', operationId: 'listEvents' })
  @ApiOkResponse({ type: EventListDto })
  async list(@CurrentActor() actor: Actor, @Query() query: EventQueryDto): Promise<EventListDto> {
    const { limit: _l, offset: _o, page: _p, per_page: _pp, cursor: _c, sort = '-timestamp', ...filters } = query;
    const page = resolvePage(query, { default: 20, max: 100 });
    const found = await this.queries.list(actor, criteriaOf(query), page, sort === 'timestamp');
    return { ...found, filters_applied: { ...filters, sort } };
  }

  @Get(':id')
  @Allow('event:read')
  @ApiOperation({ summary: 'Show an event and how its deliveries fare', operationId: 'getEvent' })
  @ApiOkResponse({ type: EventDetailDto })
  @ApiGoneResponse()
  get(@CurrentActor() actor: Actor, @IdParam('evt') id: string): Promise<EventDetailDto> {
    return this.queries.get(actor, id);
  }
}

function criteriaOf(query: EventQueryDto): EventCriteria {
  const [from, to] = [query.start_time, query.end_time].map((text) =>
    text === undefined ? undefined : new Date(text),
  );
  if (from && to && from > to) {
    throw AppError.validation({ field: 'start_time', issue: 'must not be after end_time', location: 'query' });
  }
  const { event_type: eventType, source, correlation_id: correlationId, priority, status } = query;
  return { eventType, source, from, to, correlationId, priority, status };
}
