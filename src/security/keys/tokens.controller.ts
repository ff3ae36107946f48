import { Body, Controller, Delete, Get, Post, Query } from '@nestjs/common';
import { ApiCreatedResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Actor } from '../../platform/context/index.js';
import { Allow, CurrentActor, PageQueryDto, Wire } from '../../platform/http/index.js';
import { IdParam, publicId } from '../../platform/ids/index.js';
import type { Credential } from './credential.entity.js';
import { credentialId, parentId } from './credentials.js';
import {
  CreateTokenDto,
  RevokeKeyQueryDto,
  TokenCreatedDto,
  TokenDto,
  TokenListDto,
  TokenRevokedDto,
} from './keys.dto.js';
import { KeysService } from './keys.service.js';

@ApiTags('security')
@Wire('raw')
@Allow()
@Controller('security/tokens')
export class TokensController {
  constructor(private readonly keys: KeysService) {}

  @Post()
  @ApiOperation({ summary: 'Create an access token', operationId: 'createAccessToken' })
  @ApiCreatedResponse({ type: TokenCreatedDto })
  async create(@CurrentActor() actor: Actor, @Body() body: CreateTokenDto): Promise<TokenCreatedDto> {
    const { credential, key } = await this.keys.create(actor, 'tok', {
      name: body.name,
      scopes: body.scopes,
      field: 'scopes',
      expiresInDays: body.expires_in_days,
    });
    return {
      token_id: credentialId(credential),
      token: key,
      expires_at: (credential.expiresAt as Date).toISOString(),
      scopes: credential.scopes,
    };
  }

  @Get()
  @ApiOperation({
    summary: 'List access tokens, newest first',
    description: 'The own ones; with security:admin those of everyone.',
    operationId: 'tokensList',
  })
  @ApiOkResponse({ type: TokenListDto })
  async list(@CurrentActor() actor: Actor, @Query() query: PageQueryDto): Promise<TokenListDto> {
    const { rows, pagination } = await this.keys.list(actor, 'tok', query);
    return { tokens: rows.map(toDto), pagination };
  }

  @Get(':id')
  @ApiOperation({ summary: 'Show an access token without its secret', operationId: 'tokenGet' })
  @ApiOkResponse({ type: TokenDto })
  async get(@CurrentActor() actor: Actor, @IdParam('token') id: string): Promise<TokenDto> {
    return toDto(await this.keys.get(actor, 'tok', id));
  }

  @Delete(':id')
  @ApiOperation({
    summary: 'Revoke an access token and the keys made with it',
    description: 'Effective at once on every instance.',
    operationId: 'tokenRevoke',
  })
  @ApiOkResponse({ type: TokenRevokedDto })
  async revoke(
    @CurrentActor() actor: Actor,
    @IdParam('token') id: string,
    @Query() query: RevokeKeyQueryDto,
  ): Promise<TokenRevokedDto> {
    const revoked = await this.keys.revoke(actor, 'tok', id, query.keep_children);
    return {
      token_id: credentialId(revoked),
      status: 'revoked',
      revoked_at: (revoked.revokedAt as Date).toISOString(),
    };
  }
}

function toDto(row: Credential): TokenDto {
  const expired = row.expiresAt !== null && row.expiresAt.getTime() <= Date.now();
  return {
    token_id: credentialId(row),
    name: row.name,
    token_preview: row.preview,
    owner_id: publicId('user', row.ownerUserId as string),
    scopes: row.scopes,
    parent_id: parentId(row),
    status: row.revokedAt ? 'revoked' : expired ? 'expired' : 'active',
    created_at: row.createdAt.toISOString(),
    expires_at: row.expiresAt?.toISOString() ?? null,
    last_used_at: row.lastUsedAt?.toISOString() ?? null,
    revoked_at: row.revokedAt?.toISOString() ?? null,
  };
}
