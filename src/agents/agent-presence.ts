import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import type { AgentFrame } from '@nexus/agent/protocol';
import { AgentSettings } from './agents.settings.js';
import { Database, type Tx } from '../platform/database/index.js';
import { EventBus } from '../platform/events/index.js';
import { publicId } from '../platform/ids/index.js';
import type { AgentStatus } from './agent.js';
import { AgentSigningKeys } from './agent-signing-keys.js';
import { AgentOffline, AgentStatusChanged, type OfflineReason } from './agents.events.js';
import {
  type Seen,
  type StatusChange,
  storeHeartbeat,
  storeLink,
  storeSeen,
  unlink,
  unlinkOtherNodes,
  unlinkSilent,
} from './agents.queries.js';

type Hello = Extract<AgentFrame, { type: 'hello' }>;

/** An agent counts as gone after this many heartbeats that did not come. */
const MISSED = 3;

interface Connected {
  name: string;
  /** Id of the link that the new one replaces. */
  replaced: string | null;
  signingKey: string;
}

/** The truth in the database about which agents are here. Every change of status is an event in the same transaction. */
@Injectable()
export class AgentPresence {
  /** This process, as the holder of links. */
  readonly node = randomUUID();
  /** Seconds without a sign of life after which an agent counts as gone. */
  readonly graceSeconds: number;

  constructor(
    private readonly db: Database,
    private readonly events: EventBus,
    private readonly signingKeys: AgentSigningKeys,
    settings: AgentSettings,
  ) {
    this.graceSeconds = settings.heartbeatSeconds * MISSED;
  }

  /**
   * Makes `linkId` the one link of the agent and stores what the agent says of itself.
   * @returns null when the agent is not registered (any more)
   */
  connected(agentId: string, linkId: string, hello: Hello): Promise<Connected | null> {
    const said = {
      version: hello.agent_version,
      hostname: hello.hostname,
      platform: hello.platform,
      reportedLabels: hello.labels,
      commandTypes: hello.commands,
      capabilities: hello.capabilities,
    };
    return this.db.transaction(async (tx) => {
      const stored = await storeLink(tx, agentId, { id: linkId, node: this.node }, said);
      if (!stored) return null;
      await this.publishChanges(tx, [stored]);
      const { name, replaced, signingKey } = stored;
      return { name, replaced, signingKey: signingKey ?? (await this.signingKeys.publicKey(tx, agentId)) };
    });
  }

  /** Marks the agents offline whose link is still the one given: a late close of an older link changes nothing. */
  async disconnected(links: { agentId: string; linkId: string }[]): Promise<void> {
    await this.unlink('disconnected', (tx) => unlink(tx, links));
  }

  /**
   * One statement for everything heard since the last call.
   * @returns the agents whose link is still the one given
   */
  async seen(batch: Seen[]): Promise<Set<string>> {
    if (batch.length === 0) return new Set();
    return new Set(await storeSeen(this.db.manager, batch));
  }

  /** A heartbeat over HTTP. A status that an operator holds is not overruled. */
  heartbeat(agentId: string, loadPercent: number | null, status: AgentStatus): Promise<void> {
    return this.db.transaction(async (tx) => {
      await this.publishChanges(tx, await storeHeartbeat(tx, agentId, { loadPercent, status }));
    });
  }

  /**
   * Marks offline who was not heard of for three heartbeats: its process or the process that held its link is gone. An
   * agent with an endpoint of its own owes no heartbeats before its first one.
   */
  async sweep(): Promise<void> {
    await this.unlink('missed_heartbeats', (tx) => unlinkSilent(tx, this.graceSeconds));
  }

  /** For the one process of an embedded database: links of its former lives are gone. */
  async clearStale(): Promise<void> {
    await this.unlink('server_restarted', (tx) => unlinkOtherNodes(tx, this.node));
  }

  /** The events of a change of status; nothing when it is the same. */
  async publishChanges(tx: Tx, changes: StatusChange[], reason?: OfflineReason): Promise<void> {
    const events = changes
      .filter((c) => c.status !== c.previous)
      .flatMap((c) => {
        const subject = publicId('agent', c.id);
        const fact = { agent_id: subject, agent_name: c.name };
        const changed = {
          event: AgentStatusChanged,
          subject,
          data: { ...fact, status: c.status, previous_status: c.previous },
        };
        if (c.status !== 'offline') return [changed];
        const data = { ...fact, last_seen_at: c.lastSeenAt?.toISOString() ?? null, reason };
        return [changed, { event: AgentOffline, subject, data }];
      });
    await this.events.publishMany(tx, events);
  }

  private async unlink(reason: OfflineReason, change: (tx: Tx) => Promise<StatusChange[]>): Promise<void> {
    await this.db.transaction(async (tx) => this.publishChanges(tx, await change(tx), reason));
  }
}
