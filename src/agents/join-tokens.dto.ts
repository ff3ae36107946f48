import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { ArrayMaxSize, IsArray, IsInt, IsOptional, IsString, Matches, Max, MaxLength, Min } from 'class-validator';
import type { JoinRequest, JoinResponse } from '@nexus/agent/protocol';
import { PaginationDto } from '../platform/http/index.js';
import { publicId } from '../platform/ids/index.js';
import { AGENT_NAME, AGENT_NAME_RULE, AGENT_WORD, SIGNING_KEY_DESCRIPTION, SIGNING_KEY_EXAMPLE } from './agents.dto.js';
import type { JoinToken } from './join-token.entity.js';
import { IsLabels, LABELS_SCHEMA } from './labels.js';

export class CreateJoinTokenDto {
  @ApiPropertyOptional({
    ...LABELS_SCHEMA,
    example: { env: 'production', group: 'web' },
    description: 'Labels of the agent that joins; they overrule what it says of itself.',
  })
  @IsOptional()
  @IsLabels()
  labels?: Record<string, string>;

  @ApiPropertyOptional({ type: 'integer', minimum: 60, maximum: 3600, example: 3600, description: 'Default 3600.' })
  @IsOptional()
  @IsInt()
  @Min(60)
  @Max(3600)
  expires_in_seconds?: number;
}

export class JoinTokenDto {
  @ApiProperty({ example: 'join_6f1c1f5e-2a8b-4c55-9d0a-0b8f6a3f9d11' }) join_token_id!: string;
  @ApiProperty({ enum: ['open', 'used', 'expired', 'revoked'], example: 'open' }) status!: string;
  @ApiProperty({ example: 'nexus_join_ab12CD34_...' }) preview!: string;
  @ApiProperty({ ...LABELS_SCHEMA, example: { env: 'production' } }) labels!: Record<string, string>;
  @ApiProperty({ example: 'user_6f1c1f5e-2a8b-4c55-9d0a-0b8f6a3f9d11' }) created_by!: string;
  @ApiProperty({ example: '2025-01-15T10:30:00.000Z' }) created_at!: string;
  @ApiProperty({ example: '2025-01-15T11:30:00.000Z' }) expires_at!: string;
  @ApiProperty({ type: String, nullable: true, example: null }) used_at!: string | null;
  @ApiProperty({ type: String, nullable: true, example: null }) used_by!: string | null;
}

export class NewJoinTokenDto {
  @ApiProperty({ example: 'join_6f1c1f5e-2a8b-4c55-9d0a-0b8f6a3f9d11' }) join_token_id!: string;
  @ApiProperty({ example: 'nexus_join_...', description: 'Shown this once; good for one agent.' }) token!: string;
  @ApiProperty({ example: '2025-01-15T11:30:00.000Z' }) expires_at!: string;
  @ApiProperty({ example: 'http://localhost:8000/agent/nexus-agent.tgz' }) agent_url!: string;
  @ApiProperty({
    example: '4bc75ab1d1fe9e4e2ce9a3f4ed1ff5a2b4f0d9b2b2ad2c5f8a4b5ae3de1cbd6e',
    description: 'SHA-256 of what `agent_url` serves, in hex.',
  })
  agent_sha256!: string;
  @ApiProperty({
    example: 'curl -fsSO http://localhost:8000/agent/nexus-agent.tgz && node -e … 4bc7… && … --join nexus_join_...',
    description:
      'A line for the shell of the machine that is to join (Linux or macOS): fetches, checks and starts the agent.',
  })
  join_command!: string;
}

export class JoinTokenListDto {
  @ApiProperty({ type: [JoinTokenDto], example: [] }) join_tokens!: JoinTokenDto[];
  @ApiProperty({ type: PaginationDto }) pagination!: PaginationDto;
}

export class JoinDto implements JoinRequest {
  @ApiProperty({ example: 'nexus_join_...' })
  @IsString()
  @MaxLength(200)
  token!: string;

  @ApiPropertyOptional({
    example: 'q1hL0cV9m2Yk7sXw4dRt8uBz3nJf6pGa5eTiOyCxKlM',
    description:
      'Random text made by the agent and kept secret. A join whose answer was lost may be repeated with the same token and nonce: the same agent gets new keys, as long as the token has not expired and the agent has not connected.',
  })
  @IsOptional()
  @Matches(/^[A-Za-z0-9_-]{22,128}$/, { message: 'nonce must be 22 to 128 random characters of A-Z a-z 0-9 _ -' })
  nonce?: string;

  @ApiProperty({ example: 'web-1' })
  @Matches(AGENT_NAME, { message: AGENT_NAME_RULE })
  agent_name!: string;

  @ApiProperty({ example: 'host' })
  @Matches(AGENT_WORD)
  agent_type!: string;

  @ApiProperty({ example: ['metrics', 'commands'] })
  @IsArray()
  @ArrayMaxSize(100)
  @Matches(AGENT_WORD, { each: true })
  capabilities!: string[];

  @ApiProperty({ example: '1.0.0' })
  @Matches(AGENT_WORD)
  version!: string;

  @ApiProperty({ ...LABELS_SCHEMA, example: { group: 'web' } })
  @IsLabels()
  labels!: Record<string, string>;
}

export class JoinedDto implements JoinResponse {
  @ApiProperty({ example: 'agent_6f1c1f5e-2a8b-4c55-9d0a-0b8f6a3f9d11' }) agent_id!: string;
  @ApiProperty({ example: 'web-1' }) agent_name!: string;
  @ApiProperty({ example: 'nexus_agent_...', description: 'The key of the agent, shown this once.' }) api_key!: string;
  @ApiProperty({ example: SIGNING_KEY_EXAMPLE, description: SIGNING_KEY_DESCRIPTION }) signing_key!: string;
  @ApiProperty({ example: '/api/v1/agents/link', description: 'Path of the WebSocket that the agent holds open.' })
  link_path!: string;
}

export function toJoinTokenDto(token: JoinToken): JoinTokenDto {
  return {
    join_token_id: publicId('join', token.id),
    status: token.revokedAt ? 'revoked' : token.usedAt ? 'used' : token.expiresAt <= new Date() ? 'expired' : 'open',
    preview: token.preview,
    labels: token.labels,
    created_by: token.createdBy,
    created_at: token.createdAt.toISOString(),
    expires_at: token.expiresAt.toISOString(),
    used_at: token.usedAt?.toISOString() ?? null,
    used_by: token.usedByAgent ? publicId('agent', token.usedByAgent) : null,
  };
}
