import { Body, Controller, Delete, Get, HttpCode, Post, Query, Res } from '@nestjs/common';
import { ApiCreatedResponse, ApiNotFoundResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Response } from 'express';
import type { Actor } from '../platform/context/index.js';
import { Allow, CurrentActor, OwnIdempotencyField, RateLimit, resolvePage, Wire } from '../platform/http/index.js';
import { IdParam, publicId } from '../platform/ids/index.js';
import { CommandCallbacks } from './command-callbacks.js';
import { CommandQueries } from './command-queries.service.js';
import { toCommandDetailDto, toCommandDto } from './command-view.js';
import {
  CallbackSecretDto,
  CancelCommandDto,
  CancelledCommandDto,
  CommandDetailDto,
  CommandListDto,
  CommandListQueryDto,
  CreateCommandDto,
  CreatedCommandDto,
} from './commands.dto.js';
import { type AcceptedCommand, CommandsService } from './commands.service.js';

const LIST_SIZES = { default: 20, max: 100 };

@ApiTags('commands')
@Wire('raw')
@Controller('commands')
export class CommandsController {
  constructor(
    private readonly commands: CommandsService,
    private readonly queries: CommandQueries,
    private readonly callbacks: CommandCallbacks,
  ) {}

  @Post()
  @Allow('command:write')
  @RateLimit('commands')
  @OwnIdempotencyField()
  @ApiOperation({ summary: 'Send a command to an agent, to several, or to the server', operationId: 'executeCommand' })
  @ApiCreatedResponse({ type: CreatedCommandDto })
  @ApiOkResponse({ type: CreatedCommandDto, description: 'The command that was accepted earlier with this key.' })
  @ApiNotFoundResponse()
  async create(
    @CurrentActor() actor: Actor,
    @Body() dto: CreateCommandDto,
    @Res({ passthrough: true }) response: Response,
  ): Promise<CreatedCommandDto> {
    const accepted = await this.commands.create(actor, dto);
    if (accepted.replayed) response.status(200);
    return toCreatedDto(accepted);
  }

  @Get()
  @Allow('command:read')
  @ApiOperation({ summary: 'List commands, the newest first', operationId: 'listCommands' })
  @ApiOkResponse({ type: CommandListDto })
  async list(@CurrentActor() actor: Actor, @Query() query: CommandListQueryDto): Promise<CommandListDto> {
    const { commands, pagination } = await this.queries.list(actor, query, resolvePage(query, LIST_SIZES));
    return { commands: commands.map(toCommandDto), pagination };
  }

  @Get('callback-secret')
  @Allow('command:write')
  @ApiOperation({
    summary: 'Get the secret that signs the callbacks of your commands',
    operationId: 'getCommandCallbackSecret',
  })
  @ApiOkResponse({ type: CallbackSecretDto })
  callbackSecret(@CurrentActor() actor: Actor): CallbackSecretDto {
    return { secret: this.callbacks.secretOf(actor.id), algorithm: 'hmac-sha256' };
  }

  @Get(':id')
  @Allow('command:read')
  @RateLimit('polling')
  @ApiOperation({ summary: 'Get a command with its result and timeline', operationId: 'getCommandStatus' })
  @ApiOkResponse({ type: CommandDetailDto })
  async get(@CurrentActor() actor: Actor, @IdParam('cmd') id: string): Promise<CommandDetailDto> {
    const command = await this.queries.get(actor, id);
    return toCommandDetailDto(command, await this.queries.outputStart(id));
  }

  @Delete(':id')
  @Allow('command:write')
  @ApiOperation({ summary: 'Cancel a command; one that runs is told to stop', operationId: 'cancelCommand' })
  @ApiOkResponse({ type: CancelledCommandDto })
  async cancel(
    @CurrentActor() actor: Actor,
    @IdParam('cmd') id: string,
    @Query() query: CancelCommandDto,
    @Body() body: CancelCommandDto,
  ): Promise<CancelledCommandDto> {
    const at = await this.commands.cancel(actor, id, query.reason ?? body.reason ?? undefined);
    return { command_id: publicId('cmd', id), status: 'cancelled', cancelled_at: at.toISOString() };
  }

  @Post(':id/retry')
  @HttpCode(201)
  @Allow('command:write')
  @RateLimit('commands')
  @ApiOperation({ summary: 'Send a finished command again, as a new one', operationId: 'retryCommand' })
  @ApiCreatedResponse({ type: CreatedCommandDto })
  async retry(@CurrentActor() actor: Actor, @IdParam('cmd') id: string): Promise<CreatedCommandDto> {
    return toCreatedDto(await this.commands.retry(actor, id));
  }
}

function toCreatedDto({ command, children, estimatedCompletion }: AcceptedCommand): CreatedCommandDto {
  return {
    ...toCommandDto(command),
    estimated_completion: estimatedCompletion.toISOString(),
    ...(children.length > 0 ? { children } : {}),
  };
}
