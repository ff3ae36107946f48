import { Body, Controller, Delete, Get, Patch, Post, Query, Res } from '@nestjs/common';
import { ApiCreatedResponse, ApiHeader, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Response } from 'express';
import type { Actor } from '../platform/context/index.js';
import { EventCatalogue, EventNames } from '../platform/events/index.js';
import {
  Allow,
  CurrentActor,
  IfMatch,
  PageQueryDto,
  pageOfSorted,
  RateLimit,
  resolvePage,
  versionETag,
  type WarningDto,
  Wire,
} from '../platform/http/index.js';
import { IdParam, publicId } from '../platform/ids/index.js';
import { toWebhookDto } from './webhook.js';
import type { Webhook } from './webhook.entity.js';
import {
  ChangedWebhookDto,
  CreatedWebhookDto,
  CreateWebhookDto,
  DeletedWebhookDto,
  EventTypeListDto,
  RotatedSecretDto,
  RotateSecretDto,
  UpdateWebhookDto,
  WebhookDetailDto,
  type WebhookDto,
  WebhookListDto,
} from './webhooks.dto.js';
import { WebhooksService } from './webhooks.service.js';

@ApiTags('webhooks')
@Wire('raw')
@RateLimit('webhooks')
@Controller('webhooks')
export class WebhooksController {
  constructor(
    private readonly webhooks: WebhooksService,
    private readonly names: EventNames,
    private readonly catalogue: EventCatalogue,
  ) {}

  @Post()
  @Allow('webhook:write')
  @ApiOperation({ summary: 'Register a webhook', operationId: 'registerWebhook' })
  @ApiCreatedResponse({ type: CreatedWebhookDto })
  async create(@CurrentActor() actor: Actor, @Body() dto: CreateWebhookDto): Promise<CreatedWebhookDto> {
    const { webhook, secret } = await this.webhooks.create(actor, dto);
    return { ...toWebhookDto(webhook), secret, ...(await this.warnings(dto.events)) };
  }

  @Get()
  @Allow('webhook:read')
  @ApiOperation({ summary: 'List webhooks, the newest first', operationId: 'listWebhooks' })
  @ApiOkResponse({ type: WebhookListDto })
  async list(@Query() query: PageQueryDto): Promise<WebhookListDto> {
    const { webhooks, pagination } = await this.webhooks.list(resolvePage(query, { default: 20, max: 100 }));
    return { webhooks: webhooks.map(toWebhookDto), pagination };
  }

  @Get('event-types')
  @Allow('webhook:read')
  @ApiOperation({ summary: 'The catalogue of events, with the schemas of their data', operationId: 'listEventTypes' })
  @ApiOkResponse({ type: EventTypeListDto })
  eventTypes(@Query() query: PageQueryDto): EventTypeListDto {
    const page = resolvePage(query, { default: 20, max: 100 });
    const { rows, pagination } = pageOfSorted(page, this.catalogue.events, ({ type }) => type);
    return { event_types: rows.map(({ type, summary, schema }) => ({ type, summary, schema })), pagination };
  }

  @Get(':id')
  @Allow('webhook:read')
  @ApiOperation({ summary: 'Show a webhook and how it fares', operationId: 'getWebhook' })
  @ApiOkResponse({ type: WebhookDetailDto })
  async get(@IdParam('webhook') id: string, @Res({ passthrough: true }) response: Response): Promise<WebhookDetailDto> {
    const { stats, ...webhook } = await this.webhooks.get(id);
    const shown = { ...toWebhookDto(webhook), stats };
    response.setHeader('ETag', versionETag(webhook.version, shown));
    return shown;
  }

  @Patch(':id')
  @Allow('webhook:write')
  @ApiOperation({ summary: 'Change, pause or revive a webhook', operationId: 'updateWebhook' })
  @ApiHeader({ name: 'If-Match', required: false, schema: { type: 'string', example: '"v3"' } })
  @ApiOkResponse({ type: ChangedWebhookDto })
  async update(
    @CurrentActor() actor: Actor,
    @IdParam('webhook') id: string,
    @Body() dto: UpdateWebhookDto,
    @IfMatch() expected: number | undefined,
    @Res({ passthrough: true }) response: Response,
  ): Promise<ChangedWebhookDto> {
    const shown = tagged(await this.webhooks.update(actor, id, dto, expected), response);
    return { ...shown, ...(await this.warnings(dto.events)) };
  }

  @Delete(':id')
  @Allow('webhook:write')
  @ApiOperation({ summary: 'Delete a webhook with its deliveries', operationId: 'deleteWebhook' })
  @ApiOkResponse({ type: DeletedWebhookDto })
  async remove(@IdParam('webhook') id: string): Promise<DeletedWebhookDto> {
    await this.webhooks.remove(id);
    return { webhook_id: publicId('webhook', id), status: 'deleted' };
  }

  @Post(':id/rotate-secret')
  @Allow('webhook:write')
  @ApiOperation({
    summary: 'Replace the secret; the old one signs too for a while',
    operationId: 'rotateWebhookSecret',
  })
  @ApiCreatedResponse({ type: RotatedSecretDto })
  async rotateSecret(@IdParam('webhook') id: string, @Body() dto: RotateSecretDto): Promise<RotatedSecretDto> {
    const { secret, until } = await this.webhooks.rotateSecret(id, dto);
    return { webhook_id: publicId('webhook', id), secret, previous_secret_until: until.toISOString() };
  }

  private async warnings(events: readonly string[] = []): Promise<{ warnings?: WarningDto[] }> {
    const warnings = await this.names.warningsOf('events', events);
    return warnings.length > 0 ? { warnings } : {};
  }
}

/** Sets the tag for `If-Match`, which contains the version of the webhook. */
function tagged(webhook: Webhook, response: Response): WebhookDto {
  response.setHeader('ETag', versionETag(webhook.version));
  return toWebhookDto(webhook);
}
