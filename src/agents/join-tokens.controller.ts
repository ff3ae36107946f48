import { Body, Controller, Delete, Get, Post, Query, Req } from '@nestjs/common';
import { ApiCreatedResponse, ApiOkResponse, ApiOperation, ApiTags, ApiUnauthorizedResponse } from '@nestjs/swagger';
import type { Request } from 'express';
import { LINK_PATH } from '@nexus/agent/protocol';
import { Settings } from '../platform/config/index.js';
import type { Actor } from '../platform/context/index.js';
import {
  Allow,
  CurrentActor,
  MaxBody,
  PageQueryDto,
  Public,
  publicOrigin,
  resolvePage,
  Wire,
} from '../platform/http/index.js';
import { IdParam, publicId } from '../platform/ids/index.js';
import { AGENT_PACKAGE_PATH, AgentPackage } from './agent-package.js';
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
  constructor(
    private readonly joinTokens: JoinTokensService,
    private readonly agentPackage: AgentPackage,
    private readonly settings: Settings,
  ) {}

  @Post('join-tokens')
  @Allow('agent:admin')
  @ApiOperation({ operationId: 'createJoinToken', summary: 'Make a token with which one machine may join as an agent' })
  @ApiCreatedResponse({ type: NewJoinTokenDto })
  async create(
    @CurrentActor() actor: Actor,
    @Body() body: CreateJoinTokenDto,
    @Req() request: Request,
  ): Promise<NewJoinTokenDto> {
    // First, so that no token is made for an answer that fails.
    const archive = await this.agentPackage.get();
    const origin = publicOrigin(request);
    const { token, row } = await this.joinTokens.create(
      actor,
      body.labels ?? {},
      body.expires_in_seconds ?? DEFAULT_SECONDS,
    );
    return {
      join_token_id: publicId('join', row.id),
      token,
      expires_at: row.expiresAt.toISOString(),
      agent_url: `${origin}/${AGENT_PACKAGE_PATH}`,
      agent_sha256: archive.sha256,
      join_command: this.agentPackage.joinCommand(origin, archive, token),
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
  async revoke(@CurrentActor() actor: Actor, @IdParam('join') id: string): Promise<JoinTokenDto> {
    return toJoinTokenDto(await this.joinTokens.revoke(actor, id));
  }

  @Post('join')
  @MaxBody(16 * 1024)
  @Public()
  @ApiOperation({ operationId: 'joinAgent', summary: 'Join as an agent with a one-time token' })
  @ApiCreatedResponse({ type: JoinedDto })
  @ApiUnauthorizedResponse()
  async join(@Body() body: JoinDto): Promise<JoinedDto> {
    const { agent, key, signingKey } = await this.joinTokens.join(body);
    return {
      agent_id: publicId('agent', agent.id),
      agent_name: agent.name,
      api_key: key,
      signing_key: signingKey,
      link_path: `/${this.settings.apiPrefix}/${LINK_PATH}`,
    };
  }
}
