export const AGENT_STATUSES = ['active', 'degraded', 'inactive', 'offline', 'maintenance', 'deregistered'] as const;
/** `offline` is what presence found out; `inactive` and `maintenance` are what somebody set. */
export type AgentStatus = (typeof AGENT_STATUSES)[number];

/** What is changed of an agent through the API; what is left out stays. */
export interface AgentChanges {
  capabilities?: string[];
  labels?: Record<string, string>;
  version?: string;
  endpoint?: string | null;
  status?: 'active' | 'inactive' | 'maintenance';
}
