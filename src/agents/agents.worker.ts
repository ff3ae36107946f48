import { Injectable } from '@nestjs/common';
import { HandleJob } from '../platform/jobs/index.js';
import { AgentPresence } from './agent-presence.js';
import { SweepAgents } from './agents.jobs.js';

@Injectable()
export class AgentsWorker {
  constructor(private readonly presence: AgentPresence) {}

  @HandleJob(SweepAgents)
  sweep(): Promise<void> {
    return this.presence.sweep();
  }
}
