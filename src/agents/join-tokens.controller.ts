import { Body, Controller, Delete, Get, Param, Post, Query, Req } from '@nestjs/common';
import { ApiCreatedResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Request } from 'express';
import type { Actor } from '../platform/context/index.js';
import {
  Allow,
  CurrentActor,
  PageQueryDto,
  Public,
  PublicId,
  publicId,
  resolvePage,
  Wire,
} from '../platform/http/index.js';
import {
  CreateJoinTokenDto,
  JoinDto,
  JoinedDto,
  JoinTokenDto,
  JoinTokenListDto,
  NewJoinTokenDto,
  toJoinTokenDto,
} from './join-tokens.dto.js';
import { JoinTokensService } from './join-tokens.service.js';

const DEFAULT_SECONDS = 3600;

@ApiTags('agents')
@Wire('raw')
@Controller('ai/agents')
export class JoinTokensController {
  constructor(private readonly joinTokens: JoinTokensService) {}

  @Post('join-tokens')
  @Allow('agent:admin')
  @ApiOperation({ operationId: 'createJoinToken', summary: 'Make a token with which one machine may join as an agent' })
  @ApiCreatedResponse({ type: NewJoinTokenDto })
  async create(
    @CurrentActor() actor: Actor,
    @Body() body: CreateJoinTokenDto,
    @Req() request: Request,
  ): Promise<NewJoinTokenDto> {
    const { token, row } = await this.joinTokens.create(
      actor,
      body.labels ?? {},
      body.expires_in_seconds ?? DEFAULT_SECONDS,
    );
    return {
      join_token_id: publicId('join', row.id),
      token,
      expires_at: row.expiresAt.toISOString(),
      join_command: `npx nexus-agent --url ${addressOf(request)} --join ${token}`,
    };
  }

  @Get('join-tokens')
  @Allow('agent:admin')
  @ApiOperation({ operationId: 'listJoinTokens', summary: 'List join tokens, newest first, without their secrets' })
  @ApiOkResponse({ type: JoinTokenListDto })
  async list(@CurrentActor() actor: Actor, @Query() query: PageQueryDto): Promise<JoinTokenListDto> {
    const { rows, pagination } = await this.joinTokens.list(actor, resolvePage(query, { default: 20, max: 100 }));
    return { join_tokens: rows.map(toJoinTokenDto), pagination };
  }

  @Delete('join-tokens/:id')
  @Allow('agent:admin')
  @ApiOperation({ operationId: 'revokeJoinToken', summary: 'Void a join token that was not used yet' })
  @ApiOkResponse({ type: JoinTokenDto })
  async revoke(@CurrentActor() actor: Actor, @Param('id', new PublicId('join')) id: string): Promise<JoinTokenDto> {
    return toJoinTokenDto(await this.joinTokens.revoke(actor, id));
  }

  @Post('join')
  @Public()
  @ApiOperation({ operationId: 'joinAgent', summary: 'Join as an agent with a one-time token' })
  @ApiCreatedResponse({ type: JoinedDto })
  async join(@Body() body: JoinDto): Promise<JoinedDto> {
    const { agent, key, signingKey } = await this.joinTokens.join(body);
    return { agent_id: publicId('agent', agent.id), agent_name: agent.name, api_key: key, signing_key: signingKey };
  }
}

/** The address by which the caller reached this server; anything unusual in `Host` stays out of a line for a shell. */
function addressOf(request: Request): string {
  const host = request.headers.host ?? '';
  return `${request.protocol}://${/^[A-Za-z0-9.:[\]-]{1,255}$/.test(host) ? host : 'localhost'}`;
}
