import { Body, Controller, Delete, Get, HttpCode, Patch, Post, Query, Res } from '@nestjs/common';
import { ApiCreatedResponse, ApiHeader, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Response } from 'express';
import type { Actor } from '../platform/context/index.js';
import { Allow, Audit, CurrentActor, IfMatch, resolvePage, versionETag, Wire } from '../platform/http/index.js';
import { IdParam, publicId } from '../platform/ids/index.js';
import type { Agent } from './agent.entity.js';
import {
  AgentDto,
  AgentListDto,
  AgentQueryDto,
  DeregisteredAgentDto,
  HeartbeatAnswerDto,
  HeartbeatDto,
  RegisterAgentDto,
  RegisteredAgentDto,
  RotatedKeyDto,
  toAgentDto,
  UpdateAgentDto,
} from './agents.dto.js';
import { AgentsService } from './agents.service.js';
import { parseLabels } from './labels.js';

@ApiTags('agents')
@Wire('raw')
@Controller('ai/agents')
export class AgentsController {
  constructor(private readonly agents: AgentsService) {}

  @Post()
  @Allow('ai:write')
  @ApiOperation({ operationId: 'registerAIAgent', summary: 'Register an agent and get its keys, shown once' })
  @ApiCreatedResponse({ type: RegisteredAgentDto })
  async register(@CurrentActor() actor: Actor, @Body() body: RegisterAgentDto): Promise<RegisteredAgentDto> {
    const { agent, key, signingKey } = await this.agents.register(actor, {
      name: body.agent_name,
      agentType: body.agent_type,
      capabilities: body.capabilities ?? [],
      version: body.version,
      endpoint: body.endpoint ?? null,
      authentication: body.authentication ?? null,
      labels: body.labels ?? {},
      status: 'active',
    });
    return {
      agent_id: publicId('agent', agent.id),
      agent_name: agent.name,
      status: agent.status,
      registered_at: agent.registeredAt.toISOString(),
      api_key: key,
      signing_key: signingKey,
    };
  }

  @Get()
  @Allow('ai:read')
  @ApiOperation({ operationId: 'listAgents', summary: 'List agents by status, capability, type or label' })
  @ApiOkResponse({ type: AgentListDto })
  async list(@CurrentActor() actor: Actor, @Query() query: AgentQueryDto): Promise<AgentListDto> {
    const page = resolvePage(query, { default: 20, max: 100 });
    const { status, capability, type, label } = query;
    const labels = label === undefined ? undefined : parseLabels(label, 'label');
    const { rows, pagination } = await this.agents.list(actor, { status, capability, type, labels }, page);
    return { agents: rows.map(toAgentDto), pagination };
  }

  @Get(':id')
  @Allow('ai:read', 'ai:agent')
  @ApiOperation({ operationId: 'getAgent', summary: 'Read one agent; its ETag goes into If-Match' })
  @ApiOkResponse({ type: AgentDto })
  async get(
    @CurrentActor() actor: Actor,
    @IdParam('agent') id: string,
    @Res({ passthrough: true }) response: Response,
  ): Promise<AgentDto> {
    return tagged(response, await this.agents.get(actor, id));
  }

  @Patch(':id')
  @Allow('ai:write', 'agent:admin')
  @ApiOperation({
    operationId: 'updateAgent',
    summary: 'Change labels, capabilities, version, endpoint or status',
    description: 'Labels and endpoint need the scope `agent:admin`, the others `ai:write`.',
  })
  @ApiHeader({ name: 'If-Match', required: false, description: 'ETag of the agent as it was read.' })
  @ApiOkResponse({ type: AgentDto })
  async update(
    @CurrentActor() actor: Actor,
    @IdParam('agent') id: string,
    @Body() body: UpdateAgentDto,
    @IfMatch() expected: number | undefined,
    @Res({ passthrough: true }) response: Response,
  ): Promise<AgentDto> {
    return tagged(response, await this.agents.update(actor, id, body, expected));
  }

  @Delete(':id')
  @Allow('agent:admin')
  @ApiOperation({ operationId: 'deregisterAgent', summary: 'Deregister an agent: its keys are void, its link is cut' })
  @ApiOkResponse({ type: DeregisteredAgentDto })
  async deregister(@CurrentActor() actor: Actor, @IdParam('agent') id: string): Promise<DeregisteredAgentDto> {
    const agent = await this.agents.deregister(actor, id);
    return {
      agent_id: publicId('agent', agent.id),
      status: agent.status,
      deregistered_at: agent.updatedAt.toISOString(),
    };
  }

  @Post(':id/heartbeat')
  @HttpCode(200)
  @Allow('ai:agent')
  @Audit('minute')
  @ApiOperation({ operationId: 'agentHeartbeat', summary: 'Tell that this agent is alive (for agents without a link)' })
  @ApiOkResponse({ type: HeartbeatAnswerDto })
  async heartbeat(
    @CurrentActor() actor: Actor,
    @IdParam('agent') id: string,
    @Body() body: HeartbeatDto,
  ): Promise<HeartbeatAnswerDto> {
    const beat = { loadPercent: body.load_percent ?? null, status: body.status ?? 'active' };
    return { next_heartbeat_ms: await this.agents.heartbeat(actor, id, beat) };
  }

  @Post(':id/rotate-key')
  @HttpCode(200)
  @Allow('agent:admin')
  @ApiOperation({ operationId: 'rotateAgentKey', summary: 'Give an agent new keys, shown once; the old ones are void' })
  @ApiOkResponse({ type: RotatedKeyDto })
  async rotateKey(@CurrentActor() actor: Actor, @IdParam('agent') id: string): Promise<RotatedKeyDto> {
    const { key, signingKey } = await this.agents.rotateKey(actor, id);
    return { agent_id: publicId('agent', id), api_key: key, signing_key: signingKey };
  }
}

/** Tags the answer, which changes with presence too. */
function tagged(response: Response, agent: Agent): AgentDto {
  const dto = toAgentDto(agent);
  response.setHeader('ETag', versionETag(agent.rowVersion, dto));
  return dto;
}
