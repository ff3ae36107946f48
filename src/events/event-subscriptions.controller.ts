import { Body, Controller, Delete, Get, Post, Put, Query, Res } from '@nestjs/common';
import { ApiCreatedResponse, ApiHeader, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Response } from 'express';
import type { Actor } from '../platform/context/index.js';
import { EventNames } from '../platform/events/index.js';
import { Allow, CurrentActor, IfMatch, resolvePage, versionETag, Wire } from '../platform/http/index.js';
import { IdParam, publicId } from '../platform/ids/index.js';
import {
  CreateSubscriptionDto,
  DeletedSubscriptionDto,
  SubscriptionAnswerDto,
  PutSubscriptionDto,
  type SubscriptionDto,
  SubscriptionListDto,
  SubscriptionQueryDto,
} from './event-subscriptions.dto.js';
import { EventSubscriptions } from './event-subscriptions.service.js';

@ApiTags('events')
@Wire('envelope')
@Controller('events/subscriptions')
export class EventSubscriptionsController {
  constructor(
    private readonly subscriptions: EventSubscriptions,
    private readonly names: EventNames,
  ) {}

  @Post()
  @Allow('event:subscribe')
  @ApiOperation({ summary: 'Subscribe to events', operationId: 'createEventSubscription' })
  @ApiCreatedResponse({ type: SubscriptionAnswerDto })
  async create(
    @CurrentActor() actor: Actor,
    @Body() dto: CreateSubscriptionDto,
    @Res({ passthrough: true }) response: Response,
  ): Promise<SubscriptionAnswerDto> {
    return this.warned(tagged(await this.subscriptions.create(actor, dto), response), dto.event_patterns);
  }

  @Get()
  @Allow('event:subscribe')
  @ApiOperation({ summary: 'List your subscriptions, the newest first', operationId: 'listEventSubscriptions' })
  @ApiOkResponse({ type: SubscriptionListDto })
  list(@CurrentActor() actor: Actor, @Query() query: SubscriptionQueryDto): Promise<SubscriptionListDto> {
    return this.subscriptions.list(actor, query, resolvePage(query, { default: 20, max: 100 }));
  }

  @Get(':id')
  @Allow('event:subscribe')
  @ApiOperation({ summary: 'Show a subscription of yours', operationId: 'getEventSubscription' })
  @ApiOkResponse({ type: SubscriptionAnswerDto })
  async get(
    @CurrentActor() actor: Actor,
    @IdParam('sub') id: string,
    @Res({ passthrough: true }) response: Response,
  ): Promise<SubscriptionAnswerDto> {
    return tagged(await this.subscriptions.get(actor, id), response);
  }

  @Put(':id')
  @Allow('event:subscribe')
  @ApiOperation({
    summary: 'Replace, pause or revive a subscription',
    operationId: 'updateEventSubscription',
    description:
      'What is left out gets its default; only the secret stays. `delivery_method` cannot be changed. `enabled`, which is true by default, ' +
      'revives a disabled one.',
  })
  @ApiHeader({ name: 'If-Match', required: false, schema: { type: 'string', example: '"v3"' } })
  @ApiOkResponse({ type: SubscriptionAnswerDto })
  async replace(
    @CurrentActor() actor: Actor,
    @IdParam('sub') id: string,
    @Body() dto: PutSubscriptionDto,
    @IfMatch() expected: number | undefined,
    @Res({ passthrough: true }) response: Response,
  ): Promise<SubscriptionAnswerDto> {
    const answer = tagged(await this.subscriptions.replace(actor, id, dto, expected), response);
    return this.warned(answer, dto.event_patterns);
  }

  @Delete(':id')
  @Allow('event:subscribe')
  @ApiOperation({
    summary: 'End a subscription, with the deliveries of its webhook',
    operationId: 'deleteEventSubscription',
  })
  @ApiOkResponse({ type: DeletedSubscriptionDto })
  async remove(@CurrentActor() actor: Actor, @IdParam('sub') id: string): Promise<DeletedSubscriptionDto> {
    await this.subscriptions.remove(actor, id);
    return { subscription_id: publicId('sub', id), status: 'deleted' };
  }

  private async warned(
    answer: SubscriptionAnswerDto,
    patterns: readonly string[] = [],
  ): Promise<SubscriptionAnswerDto> {
    const warnings = await this.names.warningsOf('event_patterns', patterns);
    return warnings.length > 0 ? { ...answer, warnings } : answer;
  }
}

/** The tag counts changes: what goes into `If-Match`. */
function tagged(subscription: SubscriptionDto, response: Response): SubscriptionAnswerDto {
  response.setHeader('ETag', versionETag(subscription.version, subscription));
  return { subscription };
}
