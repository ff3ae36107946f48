import { Body, Controller, Delete, Get, Post, Query } from '@nestjs/common';
import { ApiCreatedResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Actor } from '../../platform/context/index.js';
import { Allow, CurrentActor, PageQueryDto, Wire } from '../../platform/http/index.js';
import { IdParam } from '../../platform/ids/index.js';
import { MessageDto } from '../accounts/auth.dto.js';
import type { Credential } from './credential.entity.js';
import { credentialId, parentId } from './credentials.js';
import { ApiKeyCreatedDto, type ApiKeyDto, ApiKeyListDto, CreateApiKeyDto, RevokeKeyQueryDto } from './keys.dto.js';
import { KeysService } from './keys.service.js';

@ApiTags('auth')
@Wire('envelope')
@Allow()
@Controller('auth/api-keys')
export class ApiKeysController {
  constructor(private readonly keys: KeysService) {}

  @Get()
  @ApiOperation({ summary: 'List the own API keys, newest first', operationId: 'authApiKeysList' })
  @ApiOkResponse({ type: ApiKeyListDto })
  async list(@CurrentActor() actor: Actor, @Query() query: PageQueryDto): Promise<ApiKeyListDto> {
    const { rows, pagination } = await this.keys.list(actor, 'api', query);
    return { api_keys: rows.map(toDto), pagination };
  }

  @Post()
  @ApiOperation({ summary: 'Create an API key', operationId: 'authApiKeyCreate' })
  @ApiCreatedResponse({ type: ApiKeyCreatedDto })
  async create(@CurrentActor() actor: Actor, @Body() body: CreateApiKeyDto): Promise<ApiKeyCreatedDto> {
    const { name, description, permissions, expires_in_days } = body;
    const { credential, key } = await this.keys.create(actor, 'api', {
      name,
      description,
      scopes: permissions,
      field: 'permissions',
      expiresInDays: expires_in_days,
    });
    return { api_key: { ...toDto(credential), key }, warning: 'Keep the key now: it is not shown again.' };
  }

  @Delete(':id')
  @ApiOperation({ summary: 'Revoke an API key and those made with it', operationId: 'authApiKeyRevoke' })
  @ApiOkResponse({ type: MessageDto })
  async revoke(
    @CurrentActor() actor: Actor,
    @IdParam('key') id: string,
    @Query() query: RevokeKeyQueryDto,
  ): Promise<MessageDto> {
    await this.keys.revoke(actor, 'api', id, query.keep_children);
    return { message: 'The API key was revoked' };
  }
}

function toDto(row: Credential): ApiKeyDto {
  return {
    id: credentialId(row),
    name: row.name,
    description: row.description,
    key_preview: row.preview,
    permissions: row.scopes,
    parent_id: parentId(row),
    last_used: row.lastUsedAt?.toISOString() ?? null,
    created_at: row.createdAt.toISOString(),
    expires_at: row.expiresAt?.toISOString() ?? null,
    is_active: row.revokedAt === null && (row.expiresAt === null || row.expiresAt.getTime() > Date.now()),
  };
}
