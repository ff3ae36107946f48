import type { CommandTypeAdvert } from '@nexus/agent/protocol';

export const AGENT_STATUSES = ['active', 'degraded', 'inactive', 'offline', 'maintenance', 'deregistered'] as const;
/** Contract 3.4. `offline` is what presence found out; `inactive` and `maintenance` are what somebody said. */
export type AgentStatus = (typeof AGENT_STATUSES)[number];

/** One host, AI agent or service of the registry. Times are UTC. */
export interface Agent {
  id: string;
  name: string;
  agentType: string;
  capabilities: string[];
  version: string;
  endpoint: string | null;
  /** `key_reference` names a stored secret or an environment variable; it never is the secret. */
  authentication: { type: string; key_reference: string } | null;
  /** What the agent says of itself, overruled by what was set here. */
  labels: Record<string, string>;
  /** Those of them that were set here. */
  setLabels: Record<string, string>;
  status: AgentStatus;
  loadPercent: number | null;
  lastSeenAt: Date | null;
  /** Set while the agent holds its link. */
  connectedAt: Date | null;
  hostname: string | null;
  platform: string | null;
  /** What the agent is willing to execute, as of its last `hello`. */
  commandTypes: CommandTypeAdvert[];
  registeredAt: Date;
  updatedAt: Date;
  /** Counts changes made through the API: the `ETag`. */
  rowVersion: number;
}

/** What is changed of an agent through the API; what is left out stays. */
export interface AgentChanges {
  capabilities?: string[];
  labels?: Record<string, string>;
  version?: string;
  endpoint?: string | null;
  status?: 'active' | 'inactive' | 'maintenance';
}

/** Select list that yields {@link Agent} rows from the table alias `a`. */
export const AGENT_COLUMNS = `a.id, a.name, a.agent_type AS "agentType", a.capabilities, a.version, a.endpoint,
  a.authentication, a.all_labels AS labels, a.labels AS "setLabels", a.status, a.load_percent AS "loadPercent", a.last_seen_at AS "lastSeenAt",
  a.connected_at AS "connectedAt", a.hostname, a.platform, a.command_types AS "commandTypes",
  a.registered_at AS "registeredAt", a.updated_at AS "updatedAt", a.row_version AS "rowVersion"`;
