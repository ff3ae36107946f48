import { Body, Controller, Delete, Get, Param, Post, Put, Query, Res } from '@nestjs/common';
import { ApiCreatedResponse, ApiHeader, ApiOkResponse, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import type { Response } from 'express';
import type { Actor } from '../../platform/context/index.js';
import {
  Allow,
  CurrentActor,
  IfMatch,
  PageQueryDto,
  resolvePage,
  versionETag,
  Wire,
} from '../../platform/http/index.js';
import { CreateRoleDto, RoleDeletedDto, RoleDto, RoleListDto, UpdateRoleDto } from './roles.dto.js';
import { RolesService, type VersionedRole } from './roles.service.js';

@ApiTags('security')
@Wire('raw')
@Allow('security:admin')
@Controller('security/roles')
export class RolesController {
  constructor(private readonly roles: RolesService) {}

  @Get()
  @ApiOperation({ summary: 'List roles', operationId: 'rolesList' })
  @ApiOkResponse({ type: RoleListDto })
  list(@Query() query: PageQueryDto): Promise<RoleListDto> {
    return this.roles.list(resolvePage(query, { default: 20, max: 100 }));
  }

  @Post()
  @ApiOperation({ summary: 'Create a role', operationId: 'roleCreate' })
  @ApiCreatedResponse({ type: RoleDto })
  create(@CurrentActor() actor: Actor, @Body() body: CreateRoleDto): Promise<RoleDto> {
    return this.roles.create(actor, body);
  }

  @Get(':name')
  @ApiOperation({ summary: 'Show a role', operationId: 'roleGet' })
  @ApiParam({ name: 'name', example: 'release-manager' })
  @ApiOkResponse({ type: RoleDto })
  async get(@Param('name') name: string, @Res({ passthrough: true }) response: Response): Promise<RoleDto> {
    return tagged(await this.roles.get(name), response);
  }

  @Put(':name')
  @ApiOperation({
    summary: 'Replace description and scopes of a role',
    description: 'Takes effect at once for everyone who has it. With `If-Match` only when it has not changed since.',
    operationId: 'roleReplace',
  })
  @ApiParam({ name: 'name', example: 'release-manager' })
  @ApiHeader({ name: 'If-Match', required: false, schema: { type: 'string', example: '"v3"' } })
  @ApiOkResponse({ type: RoleDto })
  async replace(
    @CurrentActor() actor: Actor,
    @Param('name') name: string,
    @Body() body: UpdateRoleDto,
    @IfMatch() expected: number | undefined,
    @Res({ passthrough: true }) response: Response,
  ): Promise<RoleDto> {
    return tagged(await this.roles.replace(actor, name, body, expected), response);
  }

  @Delete(':name')
  @ApiOperation({ summary: 'Delete a role that nobody has', operationId: 'roleDelete' })
  @ApiParam({ name: 'name', example: 'release-manager' })
  @ApiOkResponse({ type: RoleDeletedDto })
  async remove(@Param('name') name: string): Promise<RoleDeletedDto> {
    const { deletedAt } = await this.roles.remove(name);
    return { name, status: 'deleted', deleted_at: deletedAt.toISOString() };
  }
}

function tagged({ role, version }: VersionedRole, response: Response): RoleDto {
  if (version !== null) response.setHeader('ETag', versionETag(version));
  return role;
}
