import { Body, Controller, Delete, Get, Patch, Post, Query, Res } from '@nestjs/common';
import { ApiCreatedResponse, ApiHeader, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Response } from 'express';
import type { Actor } from '../platform/context/index.js';
import {
  Allow,
  CurrentActor,
  IfMatch,
  PageQueryDto,
  RateLimit,
  resolvePage,
  versionETag,
  Wire,
} from '../platform/http/index.js';
import { IdParam, publicId } from '../platform/ids/index.js';
import type { Hook } from './hook.entity.js';
import { toHookDto } from './hook.js';
import {
  CreatedHookDto,
  CreateHookDto,
  DeletedHookDto,
  HookDto,
  HookListDto,
  RotatedHookSecretDto,
  RotateHookSecretDto,
  UpdateHookDto,
} from './hooks.dto.js';
import { HooksService } from './hooks.service.js';

@ApiTags('hooks')
@Wire('raw')
@RateLimit('webhooks')
@Controller('hooks')
export class HooksController {
  constructor(private readonly hooks: HooksService) {}

  @Post()
  @Allow('webhook:write')
  @ApiOperation({ summary: 'Open a hook for another program', operationId: 'createHook' })
  @ApiCreatedResponse({ type: CreatedHookDto })
  async create(@CurrentActor() actor: Actor, @Body() dto: CreateHookDto): Promise<CreatedHookDto> {
    const { hook, secret } = await this.hooks.create(actor, dto);
    return { ...toHookDto(hook), secret };
  }

  @Get()
  @Allow('webhook:read')
  @ApiOperation({ summary: 'List hooks, the newest first', operationId: 'listHooks' })
  @ApiOkResponse({ type: HookListDto })
  async list(@Query() query: PageQueryDto): Promise<HookListDto> {
    const { hooks, pagination } = await this.hooks.list(resolvePage(query, { default: 20, max: 100 }));
    return { hooks: hooks.map(toHookDto), pagination };
  }

  @Get(':id')
  @Allow('webhook:read')
  @ApiOperation({ summary: 'Show a hook and how often it was called', operationId: 'getHook' })
  @ApiOkResponse({ type: HookDto })
  async get(@IdParam('hook') id: string, @Res({ passthrough: true }) response: Response): Promise<HookDto> {
    return tagged(await this.hooks.get(id), response);
  }

  @Patch(':id')
  @Allow('webhook:write')
  @ApiOperation({ summary: 'Change, disable or enable a hook', operationId: 'updateHook' })
  @ApiHeader({ name: 'If-Match', required: false, schema: { type: 'string', example: '"v3"' } })
  @ApiOkResponse({ type: HookDto })
  async update(
    @CurrentActor() actor: Actor,
    @IdParam('hook') id: string,
    @Body() dto: UpdateHookDto,
    @IfMatch() expected: number | undefined,
    @Res({ passthrough: true }) response: Response,
  ): Promise<HookDto> {
    return tagged(await this.hooks.update(actor, id, dto, expected), response);
  }

  @Delete(':id')
  @Allow('webhook:write')
  @ApiOperation({ summary: 'Close a hook', operationId: 'deleteHook' })
  @ApiOkResponse({ type: DeletedHookDto })
  async remove(@IdParam('hook') id: string): Promise<DeletedHookDto> {
    await this.hooks.remove(id);
    return { hook_id: publicId('hook', id), status: 'deleted' };
  }

  @Post(':id/rotate-secret')
  @Allow('webhook:write')
  @ApiOperation({ summary: 'Replace the secret; the old one is good too for a while', operationId: 'rotateHookSecret' })
  @ApiCreatedResponse({ type: RotatedHookSecretDto })
  async rotateSecret(
    @CurrentActor() actor: Actor,
    @IdParam('hook') id: string,
    @Body() dto: RotateHookSecretDto,
  ): Promise<RotatedHookSecretDto> {
    const { secret, until } = await this.hooks.rotateSecret(actor, id, dto);
    return { hook_id: publicId('hook', id), secret, previous_secret_until: until.toISOString() };
  }
}

/** The tag counts changes made by callers: what goes into `If-Match`. */
function tagged(hook: Hook, response: Response): HookDto {
  response.setHeader('ETag', versionETag(hook.version));
  return toHookDto(hook);
}
