import { Body, Controller, Delete, Get, Post, Query } from '@nestjs/common';
import { ApiCreatedResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Actor } from '../platform/context/index.js';
import { Allow, CurrentActor, resolvePage, RateLimit, Wire } from '../platform/http/index.js';
import { IdParam, publicId } from '../platform/ids/index.js';
import {
  CreateSilenceDto,
  DeletedSilenceDto,
  SilenceDto,
  SilenceListDto,
  SilenceListQueryDto,
} from './silences.dto.js';
import type { AlertSilence } from './alert-silence.entity.js';
import { SilencesService, statusOf } from './silences.service.js';

const LIST_SIZES = { default: 20, max: 100 };

@ApiTags('alerts')
@Wire('raw')
@RateLimit('telemetry')
@Controller('telemetry/silences')
export class SilencesController {
  constructor(private readonly silences: SilencesService) {}

  @Post()
  @Allow('telemetry:admin')
  @ApiOperation({ summary: 'Silence alerts for a time', operationId: 'createAlertSilence' })
  @ApiCreatedResponse({ type: SilenceDto })
  async create(@CurrentActor() actor: Actor, @Body() dto: CreateSilenceDto): Promise<SilenceDto> {
    return toSilenceDto(await this.silences.create(actor, dto));
  }

  @Get()
  @Allow('telemetry:read')
  @ApiOperation({ summary: 'List silences, the newest first', operationId: 'listAlertSilences' })
  @ApiOkResponse({ type: SilenceListDto })
  async list(@CurrentActor() actor: Actor, @Query() query: SilenceListQueryDto): Promise<SilenceListDto> {
    const { silences, pagination } = await this.silences.list(actor, query, resolvePage(query, LIST_SIZES));
    return { silences: silences.map(toSilenceDto), pagination };
  }

  @Get(':id')
  @Allow('telemetry:read')
  @ApiOperation({ summary: 'Show a silence', operationId: 'getAlertSilence' })
  @ApiOkResponse({ type: SilenceDto })
  async get(@CurrentActor() actor: Actor, @IdParam('silence') id: string): Promise<SilenceDto> {
    return toSilenceDto(await this.silences.get(actor, id));
  }

  @Delete(':id')
  @Allow('telemetry:admin')
  @ApiOperation({ summary: 'End a silence', operationId: 'deleteAlertSilence' })
  @ApiOkResponse({ type: DeletedSilenceDto })
  async remove(@IdParam('silence') id: string): Promise<DeletedSilenceDto> {
    await this.silences.remove(id);
    return { silence_id: publicId('silence', id), status: 'deleted' };
  }
}

function toSilenceDto(silence: AlertSilence): SilenceDto {
  return {
    silence_id: publicId('silence', silence.id),
    comment: silence.comment,
    matchers: silence.matchers,
    starts_at: silence.startsAt.toISOString(),
    ends_at: silence.endsAt.toISOString(),
    created_by: silence.createdBy,
    created_at: silence.createdAt.toISOString(),
    status: statusOf(silence),
  };
}
