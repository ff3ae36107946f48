import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  IsArray,
  IsIn,
  IsNumber,
  IsObject,
  IsOptional,
  IsString,
  IsUrl,
  Matches,
  Max,
  MaxLength,
  Min,
  ValidateIf,
  ValidateNested,
} from 'class-validator';
import { PageQueryDto, PaginationDto } from '../platform/http/index.js';
import { publicId } from '../platform/ids/index.js';
import { AGENT_STATUSES, type AgentStatus } from './agent.js';
import type { Agent } from './agent.entity.js';
import { IsLabels, LABELS_SCHEMA } from './labels.js';

/** No control characters, and no word that means something else as the target of a command. */
export const AGENT_NAME =
  /^(?!agent_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$|label:|group:|nexus$)[^\p{C}\s](?:[^\p{C}]{0,98}[^\p{C}\s])?$/iu;
export const AGENT_NAME_RULE =
  'must be 1 to 100 printable characters, neither nexus nor an id (agent_<uuid>), and not begin with label: or group:';
export const AGENT_WORD = /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}$/;
export const SIGNING_KEY_EXAMPLE = '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo';
export const SIGNING_KEY_DESCRIPTION =
  'Public Ed25519 key (base64url) that checks the commands for this agent; the private key never leaves the server.';
const REPORTABLE = ['active', 'degraded', 'inactive', 'maintenance'] as const;
const SETTABLE = ['active', 'inactive', 'maintenance'] as const;

class AgentAuthenticationDto {
  @ApiProperty({
    example: 'api_key',
    description: 'How the agent authenticates its own callers. Stored and shown; the server does not use it yet.',
  })
  @Matches(AGENT_WORD)
  type!: string;

  @ApiProperty({
    example: 'CLAUDE_API_KEY',
    description:
      'Name of a stored secret or environment variable, never the secret. Stored and shown; the server does not use it yet.',
  })
  @Matches(/^[A-Za-z_][A-Za-z0-9_.-]{0,127}$/)
  key_reference!: string;
}

/** What can be said about an agent at registration and changed later. */
class AgentFieldsDto {
  @ApiPropertyOptional({ example: ['code_generation', 'code_review'] })
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(100)
  @Matches(AGENT_WORD, { each: true })
  capabilities?: string[];

  @ApiPropertyOptional({ ...LABELS_SCHEMA, example: { env: 'production', group: 'web' } })
  @IsOptional()
  @IsLabels()
  labels?: Record<string, string>;
}

const URL_RULE = { protocols: ['http', 'https'], require_protocol: true, require_tld: false };

export class RegisterAgentDto extends AgentFieldsDto {
  @ApiProperty({ example: 'build-agent' })
  @Matches(AGENT_NAME, { message: AGENT_NAME_RULE })
  agent_name!: string;

  @ApiProperty({ example: 'ai' })
  @Matches(AGENT_WORD)
  agent_type!: string;

  @ApiProperty({ example: '1.0.0' })
  @IsString()
  @Matches(AGENT_WORD)
  version!: string;

  @ApiPropertyOptional({ example: 'https://agents.example.com/build' })
  @IsOptional()
  @IsUrl(URL_RULE)
  @MaxLength(2000)
  endpoint?: string;

  @ApiPropertyOptional({ type: AgentAuthenticationDto, example: { type: 'api_key', key_reference: 'BUILD_AGENT_KEY' } })
  @IsOptional()
  @IsObject()
  @ValidateNested()
  @Type(() => AgentAuthenticationDto)
  authentication?: AgentAuthenticationDto;
}

export class UpdateAgentDto extends AgentFieldsDto {
  @ApiPropertyOptional({ example: '1.1.0' })
  @IsOptional()
  @Matches(AGENT_WORD)
  version?: string;

  @ApiPropertyOptional({ type: String, nullable: true, example: 'https://agents.example.com/build' })
  @ValidateIf((_dto, value) => value !== null && value !== undefined)
  @IsUrl(URL_RULE)
  @MaxLength(2000)
  endpoint?: string | null;

  @ApiPropertyOptional({ enum: SETTABLE, example: 'maintenance' })
  @IsOptional()
  @IsIn(SETTABLE)
  status?: (typeof SETTABLE)[number];
}

export class HeartbeatDto {
  @ApiPropertyOptional({ minimum: 0, maximum: 100, example: 12.5 })
  @IsOptional()
  @IsNumber()
  @Min(0)
  @Max(100)
  load_percent?: number;

  @ApiPropertyOptional({ enum: REPORTABLE, example: 'active' })
  @IsOptional()
  @IsIn(REPORTABLE)
  status?: (typeof REPORTABLE)[number];
}

export class AgentQueryDto extends PageQueryDto {
  @ApiPropertyOptional({ enum: AGENT_STATUSES, description: 'Deregistered agents are shown only when asked for.' })
  @IsOptional()
  @IsIn(AGENT_STATUSES)
  status?: AgentStatus;

  @ApiPropertyOptional({ description: 'Agents with this capability.', example: 'code_review' })
  @IsOptional()
  @Matches(AGENT_WORD)
  capability?: string;

  @ApiPropertyOptional({ description: 'Agents of this type.', example: 'host' })
  @IsOptional()
  @Matches(AGENT_WORD)
  type?: string;

  @ApiPropertyOptional({ description: 'Agents with these labels: `key=value[,key=value]`.', example: 'env=production' })
  @IsOptional()
  @IsString()
  @MaxLength(1000)
  label?: string;
}

export class RegisteredAgentDto {
  @ApiProperty({ example: 'agent_6f1c1f5e-2a8b-4c55-9d0a-0b8f6a3f9d11' }) agent_id!: string;
  @ApiProperty({ example: 'build-agent' }) agent_name!: string;
  @ApiProperty({ enum: AGENT_STATUSES, example: 'active' }) status!: AgentStatus;
  @ApiProperty({ example: '2025-01-15T10:30:00.000Z' }) registered_at!: string;
  @ApiProperty({ example: 'nexus_agent_...', description: 'The key of the agent, shown this once.' }) api_key!: string;
  @ApiProperty({ example: SIGNING_KEY_EXAMPLE, description: SIGNING_KEY_DESCRIPTION }) signing_key!: string;
}

class AgentCommandDto {
  @ApiProperty({ example: 'system.info' }) type!: string;
  @ApiPropertyOptional({ example: 'Operating system, hardware and uptime' }) description?: string;
  @ApiPropertyOptional({ type: 'integer', minimum: 1, example: 30 }) timeout_seconds?: number;
  @ApiPropertyOptional({ example: true }) idempotent?: boolean;
}

export class AgentDto {
  @ApiProperty({ example: 'agent_6f1c1f5e-2a8b-4c55-9d0a-0b8f6a3f9d11' }) agent_id!: string;
  @ApiProperty({ example: 'web-1' }) agent_name!: string;
  @ApiProperty({ example: 'host' }) agent_type!: string;
  @ApiProperty({ enum: AGENT_STATUSES, example: 'active' }) status!: AgentStatus;
  @ApiProperty({ example: true, description: 'Holds its link right now.' }) connected!: boolean;
  @ApiProperty({ type: [String], example: ['metrics', 'commands'] }) capabilities!: string[];
  @ApiProperty({ example: '1.0.0' }) version!: string;
  @ApiProperty({ type: String, nullable: true, example: null }) endpoint!: string | null;
  @ApiProperty({ type: AgentAuthenticationDto, nullable: true, example: null })
  authentication!: AgentAuthenticationDto | null;
  @ApiProperty({ ...LABELS_SCHEMA, example: { env: 'production', group: 'web' } }) labels!: Record<string, string>;
  @ApiProperty({ type: Number, nullable: true, example: 12.5 }) load_percent!: number | null;
  @ApiProperty({ type: String, nullable: true, example: '2025-01-15T10:30:00.000Z' }) last_seen!: string | null;
  @ApiProperty({ type: String, nullable: true, example: '2025-01-15T10:00:00.000Z' }) connected_at!: string | null;
  @ApiProperty({ type: String, nullable: true, example: 'web-1.example.com' }) hostname!: string | null;
  @ApiProperty({ type: String, nullable: true, example: 'linux x64' }) platform!: string | null;
  @ApiProperty({ type: [AgentCommandDto], example: [{ type: 'system.info' }] }) command_types!: AgentCommandDto[];
  @ApiProperty({ example: '2025-01-15T09:00:00.000Z' }) registered_at!: string;
  @ApiProperty({ example: '2025-01-15T09:00:00.000Z' }) updated_at!: string;
}

export class AgentListDto {
  @ApiProperty({ type: [AgentDto], example: [] }) agents!: AgentDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}

export class HeartbeatAnswerDto {
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    example: 15000,
    description: 'Send the next heartbeat after this many milliseconds.',
  })
  next_heartbeat_ms!: number;
}

export class RotatedKeyDto {
  @ApiProperty({ example: 'agent_6f1c1f5e-2a8b-4c55-9d0a-0b8f6a3f9d11' }) agent_id!: string;
  @ApiProperty({ example: 'nexus_agent_...', description: 'The new key, shown this once; the old one is void.' })
  api_key!: string;
  @ApiProperty({ example: SIGNING_KEY_EXAMPLE, description: SIGNING_KEY_DESCRIPTION }) signing_key!: string;
}

export class DeregisteredAgentDto {
  @ApiProperty({ example: 'agent_6f1c1f5e-2a8b-4c55-9d0a-0b8f6a3f9d11' }) agent_id!: string;
  @ApiProperty({ enum: ['deregistered'], example: 'deregistered' }) status!: string;
  @ApiProperty({ example: '2025-01-15T10:30:00.000Z' }) deregistered_at!: string;
}

export function toAgentDto(agent: Agent): AgentDto {
  return {
    agent_id: publicId('agent', agent.id),
    agent_name: agent.name,
    agent_type: agent.agentType,
    status: agent.status,
    connected: agent.connectedAt !== null,
    capabilities: agent.capabilities,
    version: agent.version,
    endpoint: agent.endpoint,
    authentication: agent.authentication,
    labels: agent.allLabels,
    load_percent: agent.loadPercent,
    last_seen: agent.lastSeenAt?.toISOString() ?? null,
    connected_at: agent.connectedAt?.toISOString() ?? null,
    hostname: agent.hostname,
    platform: agent.platform,
    command_types: agent.commandTypes,
    registered_at: agent.registeredAt.toISOString(),
    updated_at: agent.updatedAt.toISOString(),
  };
}
