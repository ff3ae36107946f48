import { defineEvent, payloadSchema } from '../platform/events/index.js';
import { AGENT_STATUSES } from './agent.js';

interface AgentFact {
  agent_id: string;
  agent_name: string;
}

const OFFLINE_REASONS = ['disconnected', 'missed_heartbeats', 'server_restarted'] as const;
export type OfflineReason = (typeof OFFLINE_REASONS)[number];

const agentFact = { agent_id: { type: 'string' }, agent_name: { type: 'string' } };

export const AgentRegistered = defineEvent<AgentFact & { agent_type: string }>('ai.agent_registered', {
  summary: 'An agent entered the registry, by registration or with a join token.',
  schema: payloadSchema({ ...agentFact, agent_type: { type: 'string' } }),
});

export const AgentStatusChanged = defineEvent<AgentFact & { status: string; previous_status: string }>(
  'ai.agent_status_changed',
  {
    summary: 'The status of an agent is another than before.',
    schema: payloadSchema({
      ...agentFact,
      status: { enum: AGENT_STATUSES },
      previous_status: { enum: AGENT_STATUSES },
    }),
  },
);

export const AgentOffline = defineEvent<AgentFact & { last_seen_at: string | null; reason: OfflineReason }>(
  'ai.agent_offline',
  {
    summary: 'An agent is gone: its link closed or its heartbeats stopped.',
    schema: payloadSchema({
      ...agentFact,
      last_seen_at: { type: ['string', 'null'], format: 'date-time' },
      reason: { enum: OFFLINE_REASONS },
    }),
  },
);
