import { Module } from '@nestjs/common';
import { DatabaseModule } from '../platform/database/index.js';
import { EventsModule } from '../platform/events/index.js';
import { HttpModule } from '../platform/http/index.js';
import { JobsModule } from '../platform/jobs/index.js';
import { SecurityModule } from '../security/index.js';
import { AgentDirectory } from './agent-directory.js';
import { AgentLinkGateway } from './agent-link.gateway.js';
import { AgentLinks } from './agent-links.js';
import { AgentPackageController } from './agent-package.controller.js';
import { AgentPackage } from './agent-package.js';
import { AgentPresence } from './agent-presence.js';
import { AgentSigningKey } from './agent-signing-key.entity.js';
import { AgentSigningKeys } from './agent-signing-keys.js';
import { Agent } from './agent.entity.js';
import { AgentsHealth } from './agents-health.js';
import { AgentsController } from './agents.controller.js';
import { AgentRegistered, AgentStatusChanged, AgentOffline } from './agents.events.js';
import { SweepAgents } from './agents.jobs.js';
import { AgentsService } from './agents.service.js';
import { AgentsWorker } from './agents.worker.js';
import { JoinTokenRights } from './join-token-rights.js';
import { JoinToken } from './join-token.entity.js';
import { JoinTokensController } from './join-tokens.controller.js';
import { JoinTokensService } from './join-tokens.service.js';

declare module '../platform/ids/id-prefixes.js' {
  interface IdPrefixes {
    agent: 'agent';
    join: 'join token';
  }
}

@Module({
  imports: [
    EventsModule.forFeature({
      events: [AgentRegistered, AgentStatusChanged, AgentOffline],
      families: [{ types: ['ai.*', 'agent.*'], channel: 'agents.status', scope: 'ai:read' }],
    }),
    JobsModule.forFeature([SweepAgents]),
    HttpModule.forFeature({
      tags: { ai: 'The registry of agents: hosts, AI and services', agents: 'How agents join' },
    }),
    DatabaseModule.forFeature([AgentSigningKey, Agent, JoinToken]),
    SecurityModule,
  ],
  // The fixed paths of join tokens come before `:id`.
  controllers: [JoinTokensController, AgentsController, AgentPackageController],
  providers: [
    AgentsService,
    JoinTokensService,
    JoinTokenRights,
    AgentPresence,
    AgentLinks,
    AgentLinkGateway,
    AgentDirectory,
    AgentSigningKeys,
    AgentPackage,
    AgentsWorker,
    AgentsHealth,
  ],
  exports: [AgentLinks, AgentDirectory, AgentSigningKeys],
})
export class AgentsModule {}
