import {
  Body,
  Controller,
  Get,
  HttpCode,
  type OnModuleInit,
  Param,
  Post,
  Query,
  Res,
  UseInterceptors,
} from '@nestjs/common';
import {
  ApiAcceptedResponse,
  ApiBody,
  ApiCreatedResponse,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  ApiQuery,
  ApiTags,
} from '@nestjs/swagger';
import type { Response } from 'express';
import type { Actor } from '../platform/context/index.js';
import { AppError } from '../platform/errors/index.js';
import { Allow, Audit, CurrentActor, LargeBody, LeanRoutes, RateLimit, Wire } from '../platform/http/index.js';
import { IdParam, publicId } from '../platform/ids/index.js';
import { EventQueries } from './event-queries.js';
import { TagFilters } from './tag-filters.js';
import { metricWarnings } from './metric-warnings.js';
import type { TelemetryRow } from './telemetry-event.js';
import { type SubmittedBatch, TelemetryIngest } from './telemetry-ingest.js';
import {
  AcceptedEventDto,
  BatchDto,
  TelemetryEventDto,
  TelemetryEventListDto,
  ListEventsDto,
  SubmitBatchDto,
  SubmitEventDto,
} from './telemetry.dto.js';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
/** A batch has far more keys than other bodies, and never deep ones. */
const BODY_LIMITS = { maxDepth: 64, maxKeys: 200_000, maxValues: 300_000, maxKeyLength: 256 };

@ApiTags('telemetry')
@Wire('raw')
@RateLimit('telemetry')
@Controller('telemetry')
export class TelemetryController implements OnModuleInit {
  constructor(
    private readonly ingest: TelemetryIngest,
    private readonly queries: EventQueries,
    private readonly lean: LeanRoutes,
  ) {}

  onModuleInit(): void {
    const route = { anyOf: ['telemetry:write'], audit: 'minute', limits: BODY_LIMITS } as const;
    this.lean.register({
      ...route,
      path: '/telemetry/events',
      rateLimit: 'telemetry',
      handle: async (actor, body) => {
        const row = await this.ingest.submitOne(actor, body);
        return { status: statusOf(row), body: toAcceptedDto(row, body) };
      },
    });
    this.lean.register({
      ...route,
      path: '/telemetry/batch',
      largeBody: true,
      rateLimit: 'telemetry_batch',
      handle: async (actor, body, raw) => {
        return { status: 202, body: toBatchDto(await this.ingest.submitBatch(actor, body, { raw })) };
      },
    });
  }

  @Post('events')
  @Allow('telemetry:write')
  @Audit('minute')
  @ApiOperation({ summary: 'Submit a telemetry event', operationId: 'submitTelemetryEvent' })
  @ApiBody({ type: SubmitEventDto })
  @ApiCreatedResponse({ type: AcceptedEventDto })
  @ApiOkResponse({ type: AcceptedEventDto, description: 'It was stored before; nothing changed.' })
  async submit(
    @CurrentActor() actor: Actor,
    @Body() body: unknown,
    @Res({ passthrough: true }) response: Response,
  ): Promise<AcceptedEventDto> {
    const row = await this.ingest.submitOne(actor, body);
    response.status(statusOf(row));
    return toAcceptedDto(row, body);
  }

  @Post('batch')
  @HttpCode(202)
  @Allow('telemetry:write')
  @RateLimit('telemetry_batch')
  @LargeBody()
  @Audit('minute')
  @ApiOperation({ summary: 'Submit many telemetry events', operationId: 'submitTelemetryBatch' })
  @ApiBody({ type: SubmitBatchDto })
  @ApiAcceptedResponse({ type: BatchDto })
  async submitBatch(@CurrentActor() actor: Actor, @Body() body: unknown): Promise<BatchDto> {
    return toBatchDto(await this.ingest.submitBatch(actor, body));
  }

  @Get('batch/:id')
  @Allow('telemetry:read')
  @ApiOperation({ summary: 'What became of a batch', operationId: 'getTelemetryBatch' })
  @ApiOkResponse({ type: BatchDto })
  getBatch(@CurrentActor() actor: Actor, @IdParam('batch') id: string): Promise<BatchDto> {
    return this.queries.getBatch(actor, id);
  }

  @Get('events')
  @Allow('telemetry:read')
  @UseInterceptors(TagFilters)
  @ApiOperation({
    summary: 'Find telemetry events, newest first',
    operationId: 'queryTelemetryEvents',
    description:
      'With `metric_name`, tags or both `source` and `event_type`, the search lasts a few seconds at most: a page may then hold fewer ' +
      'events than `limit`, or none, while `has_more` is true. Go on with `next_cursor`, or ask for a shorter time.',
  })
  @ApiQuery({ name: 'tag.<name>', required: false, example: 'server-01', description: 'Value of the tag `<name>`.' })
  @ApiOkResponse({ type: TelemetryEventListDto })
  list(@CurrentActor() actor: Actor, @Query() query: ListEventsDto): Promise<TelemetryEventListDto> {
    return this.queries.list(actor, query);
  }

  @Get('events/:id')
  @Allow('telemetry:read')
  @ApiOperation({ summary: 'One telemetry event', operationId: 'getTelemetryEvent' })
  @ApiParam({ name: 'id', example: '550e8400-e29b-41d4-a716-446655440000' })
  @ApiOkResponse({ type: TelemetryEventDto })
  get(@CurrentActor() actor: Actor, @Param('id') id: string): Promise<TelemetryEventDto> {
    if (!UUID.test(id)) {
      throw new AppError('not_found', 'Telemetry event not found: its id must be a UUID', {
        details: { resource: 'Telemetry event', id: id.slice(0, 100), expected: 'a UUID' },
      });
    }
    return this.queries.get(actor, id);
  }
}

function statusOf(row: TelemetryRow): 200 | 201 {
  return row.outcome === 'duplicate' ? 200 : 201;
}

function toAcceptedDto(row: TelemetryRow, body: unknown): AcceptedEventDto {
  const accepted = { event_id: row.eventId, status: 'accepted', timestamp: new Date(row.receivedAt).toISOString() };
  const warnings = metricWarnings(row, body);
  return warnings ? { ...accepted, warnings } : accepted;
}

function toBatchDto({ warnings, ...batch }: SubmittedBatch): BatchDto {
  return {
    batch_id: publicId('batch', batch.id),
    status: 'processing',
    accepted_count: batch.acceptedCount,
    rejected_count: batch.rejectedCount,
    duplicate_count: batch.duplicateCount,
    errors: batch.errors,
    ...(warnings.length > 0 ? { warnings } : {}),
    created_at: batch.createdAt.toISOString(),
  };
}
