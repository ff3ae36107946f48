import { Body, Controller, Delete, Get, Param, Post, Put, Query, Res } from '@nestjs/common';
import { ApiCreatedResponse, ApiHeader, ApiOkResponse, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import type { Response } from 'express';
import { Allow, IfMatch, PageQueryDto, resolvePage, versionETag, Wire } from '../platform/http/index.js';
import {
  CommandTypeDto,
  CommandTypeListDto,
  CreateCommandTypeDto,
  DeletedCommandTypeDto,
  PutCommandTypeDto,
} from './command-types.dto.js';
import type { CommandType } from './command-type.entity.js';
import { CommandTypes, toCommandTypeDto } from './command-types.service.js';

const LIST_SIZES = { default: 20, max: 100 };
const TYPE = { name: 'type', schema: { type: 'string', example: 'deploy.service' } };

@ApiTags('commands')
@Wire('raw')
@Controller('commands/types')
export class CommandTypesController {
  constructor(private readonly types: CommandTypes) {}

  @Get()
  @Allow('command:read')
  @ApiOperation({ summary: 'List the command types of the catalogue', operationId: 'listCommandTypes' })
  @ApiOkResponse({ type: CommandTypeListDto })
  async list(@Query() query: PageQueryDto): Promise<CommandTypeListDto> {
    const { rows, pagination } = await this.types.list(resolvePage(query, LIST_SIZES));
    return { types: rows.map(toCommandTypeDto), pagination };
  }

  @Get(':type')
  @ApiParam(TYPE)
  @Allow('command:read')
  @ApiOperation({ summary: 'Get one command type', operationId: 'getCommandType' })
  @ApiOkResponse({ type: CommandTypeDto })
  async get(@Param('type') type: string, @Res({ passthrough: true }) response: Response): Promise<CommandTypeDto> {
    return tagged(await this.types.get(type), response);
  }

  @Post()
  @Allow('command:admin')
  @ApiOperation({ summary: 'Add a command type', operationId: 'createCommandType' })
  @ApiCreatedResponse({ type: CommandTypeDto })
  async create(
    @Body() dto: CreateCommandTypeDto,
    @Res({ passthrough: true }) response: Response,
  ): Promise<CommandTypeDto> {
    return tagged(await this.types.create(dto), response);
  }

  @Put(':type')
  @ApiParam(TYPE)
  @Allow('command:admin')
  @ApiOperation({ summary: 'Replace a command type', operationId: 'replaceCommandType' })
  @ApiHeader({ name: 'If-Match', required: false, schema: { type: 'string', example: '"v3"' } })
  @ApiOkResponse({ type: CommandTypeDto })
  async replace(
    @Param('type') type: string,
    @Body() dto: PutCommandTypeDto,
    @IfMatch() expected: number | undefined,
    @Res({ passthrough: true }) response: Response,
  ): Promise<CommandTypeDto> {
    return tagged(await this.types.replace(type, dto, expected), response);
  }

  @Delete(':type')
  @ApiParam(TYPE)
  @Allow('command:admin')
  @ApiOperation({ summary: 'Delete a command type', operationId: 'deleteCommandType' })
  @ApiOkResponse({ type: DeletedCommandTypeDto })
  async remove(@Param('type') type: string): Promise<DeletedCommandTypeDto> {
    const { deletedAt } = await this.types.remove(type);
    return { type, status: 'deleted', deleted_at: deletedAt.toISOString() };
  }
}

function tagged(type: CommandType, response: Response): CommandTypeDto {
  response.setHeader('ETag', versionETag(type.version));
  return toCommandTypeDto(type);
}
