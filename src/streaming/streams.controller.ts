import { Body, Controller, Get, Headers, Ip, Post, Query, Res } from '@nestjs/common';
import {
  ApiConflictResponse,
  ApiCreatedResponse,
  ApiHeader,
  ApiNotFoundResponse,
  ApiOkResponse,
  ApiOperation,
  ApiTags,
} from '@nestjs/swagger';
import type { Response } from 'express';
import { type Actor, currentContext } from '../platform/context/index.js';
import { AppError } from '../platform/errors/index.js';
import { Allow, CurrentActor, NotIdempotent, Streaming, TakesTicket, Wire } from '../platform/http/index.js';
import { ALL_EVENTS_SCOPE } from './channels.js';
import { SseStreams } from './sse-streams.js';
import { StreamTickets, TICKET_SECONDS, type TicketGrant } from './stream-tickets.js';
import type { Wish } from './stream-subscriptions.js';
import { CreateTicketDto, StreamQueryDto, TicketDto } from './streams.dto.js';

@ApiTags('streams')
@Wire('raw')
@Controller()
export class StreamsController {
  constructor(
    private readonly streams: SseStreams,
    private readonly tickets: StreamTickets,
  ) {}

  @Get('events/stream')
  @Streaming()
  @Allow(ALL_EVENTS_SCOPE)
  @TakesTicket({ limited: true })
  @ApiOperation({
    summary: 'Follow events as they happen (server-sent events)',
    operationId: 'streamEvents',
    description:
      'Needs the scope `event:subscribe` besides those of the channels. Events come unnamed with their `id`; beside them `connection_established`, `subscription_confirmed`, `keepalive` every 15 s, ' +
      '`gap` when something may be missing and `draining` before the server stops. The same path takes WebSocket upgrades.',
  })
  @ApiHeader({ name: 'Last-Event-ID', required: false, description: 'Resumes after the event with this id.' })
  @ApiOkResponse({ content: { 'text/event-stream': { schema: { type: 'string' } } } })
  @ApiNotFoundResponse()
  @ApiConflictResponse()
  stream(
    @CurrentActor() actor: Actor,
    @Query() query: StreamQueryDto,
    @Headers('last-event-id') lastEventId: string | undefined,
    @Headers('authorization') authorization: string | undefined,
    @Headers('x-api-key') apiKey: string | undefined,
    @Ip() ip: string,
    @Res() response: Response,
  ): Promise<void> {
    const ticket = currentContext()?.ticket;
    const credential = ticket?.headers ?? { authorization, 'x-api-key': apiKey };
    const only = (ticket?.grant as TicketGrant | undefined)?.channels ?? null;
    return this.streams.open(actor, wishOf(query, lastEventId), response, { credential, ip, only });
  }

  @Post('stream/tickets')
  @Allow()
  @NotIdempotent()
  @ApiOperation({
    summary: 'Get a ticket that opens one stream: a WebSocket or server-sent events',
    operationId: 'createStreamTicket',
  })
  @ApiCreatedResponse({ type: TicketDto })
  async createTicket(
    @CurrentActor() actor: Actor,
    @Body() dto: CreateTicketDto,
    @Headers('authorization') authorization: string | undefined,
    @Headers('x-api-key') apiKey: string | undefined,
  ): Promise<TicketDto> {
    const credential = authorization?.replace(/^Bearer +/i, '') ?? apiKey ?? '';
    return {
      ticket: await this.tickets.issue(actor, credential.trim(), dto.channels ?? null),
      expires_in: TICKET_SECONDS,
    };
  }
}

function wishOf(query: StreamQueryDto, lastEventId: string | undefined): Wish {
  const { channels, patterns, filters, subscription_id } = query;
  const list = (text: string | undefined): string[] | undefined => text?.split(',').map((name) => name.trim());
  return {
    channels: list(channels) ?? (patterns === undefined && subscription_id === undefined ? ['*'] : undefined),
    patterns: list(patterns),
    filters: filters === undefined ? undefined : parsed(filters),
    subscription_id,
    since: lastEventId ?? query.last_event_id,
  };
}

function parsed(filters: string): unknown {
  try {
    return JSON.parse(filters) as unknown;
  } catch {
    throw AppError.validation({ field: 'filters', issue: 'must be JSON', location: 'query' });
  }
}
