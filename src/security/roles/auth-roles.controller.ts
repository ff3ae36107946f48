import { Controller, Get, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { Allow, PageQueryDto, resolvePage, Wire } from '../../platform/http/index.js';
import { ALL_SCOPES } from '../access/scopes.js';
import { RolesAndPermissionsDto } from './roles.dto.js';
import { RolesService } from './roles.service.js';

@ApiTags('auth')
@Wire('envelope')
@Allow()
@Controller('auth/roles')
export class AuthRolesController {
  constructor(private readonly roles: RolesService) {}

  @Get()
  @ApiOperation({ summary: 'List roles and every permission there is', operationId: 'authRolesList' })
  @ApiOkResponse({ type: RolesAndPermissionsDto })
  async list(@Query() query: PageQueryDto): Promise<RolesAndPermissionsDto> {
    return {
      ...(await this.roles.list(resolvePage(query, { default: 20, max: 100 }))),
      all_permissions: [...ALL_SCOPES],
    };
  }
}
