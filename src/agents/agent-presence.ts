import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import type { AgentFrame } from '@nexus/agent/protocol';
import { AgentSettings } from './agents.settings.js';
import { Database, type Tx } from '../platform/database/index.js';
import { EventBus } from '../platform/events/index.js';
import { publicId } from '../platform/http/index.js';
import type { AgentStatus } from './agent.js';
import { AgentSigningKeys } from './agent-signing-keys.js';
import { AgentOffline, AgentStatusChanged, type OfflineReason } from './agents.events.js';

type Hello = Extract<AgentFrame, { type: 'hello' }>;

/** An agent counts as gone after this many heartbeats that did not come. */
const MISSED = 3;

interface Changed {
  id: string;
  name: string;
  status: AgentStatus;
  previous: AgentStatus;
  last_seen_at: Date | null;
}

interface Connected {
  name: string;
  /** Id of the link that the new one replaces. */
  replaced: string | null;
  signingKey: string;
}

export interface Seen {
  agentId: string;
  linkId: string;
  /** Epoch milliseconds. */
  at: number;
  loadPercent: number | null;
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
    return this.db.transaction(async (tx) => {
      const [rows] = await tx.query<[(Changed & { replaced: string | null; signingKey: string | null })[], number]>(
        `WITH before AS (
           SELECT id, status, link_id FROM agents WHERE id = $1 AND status <> 'deregistered' FOR UPDATE
         )
         UPDATE agents a SET link_id = $2, link_node = $3, connected_at = now(), last_seen_at = now(),
           status = CASE WHEN a.held THEN a.status ELSE 'active' END,
           version = $4, hostname = $5, platform = $6, reported_labels = $7, command_types = $8,
           capabilities = CASE WHEN cardinality($9::text[]) > 0 THEN $9::text[] ELSE a.capabilities END
         FROM before b WHERE a.id = b.id
         RETURNING a.id, a.name, a.status, b.status AS previous, a.last_seen_at, b.link_id AS replaced,
           (SELECT k.public_key FROM agent_signing_keys k WHERE k.agent_id = a.id) AS "signingKey"`,
        [
          agentId,
          linkId,
          this.node,
          hello.agent_version,
          hello.hostname,
          hello.platform,
          JSON.stringify(hello.labels),
          JSON.stringify(hello.commands),
          hello.capabilities,
        ],
      );
      if (!rows[0]) return null;
      await this.tell(tx, rows);
      const [{ name, replaced, signingKey }] = rows;
      return { name, replaced, signingKey: signingKey ?? (await this.signingKeys.publicKey(tx, agentId)) };
    });
  }

  /** Marks the agents offline whose link is still the one given: a late close of an older link changes nothing. */
  async disconnected(links: { agentId: string; linkId: string }[]): Promise<void> {
    await this.unlink('disconnected', `(a.id, a.link_id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))`, [
      links.map((l) => l.agentId),
      links.map((l) => l.linkId),
    ]);
  }

  /**
   * One statement for everything heard since the last call.
   * @returns the agents whose link is still the one given
   */
  async seen(batch: Seen[]): Promise<Set<string>> {
    if (batch.length === 0) return new Set();
    const [rows] = await this.db.manager.query<[{ id: string }[], number]>(
      `UPDATE agents a SET last_seen_at = greatest(a.last_seen_at, to_timestamp(s.at / 1000.0)),
         load_percent = coalesce(s.load_percent, a.load_percent)
       FROM unnest($1::uuid[], $2::uuid[], $3::float8[], $4::real[]) AS s (id, link_id, at, load_percent)
       WHERE a.id = s.id AND a.link_id = s.link_id
       RETURNING a.id`,
      [
        batch.map((s) => s.agentId),
        batch.map((s) => s.linkId),
        batch.map((s) => s.at),
        batch.map((s) => s.loadPercent),
      ],
    );
    return new Set(rows.map((row) => row.id));
  }

  /** A heartbeat over HTTP (row AI-04). A status that an operator holds is not overruled. */
  heartbeat(agentId: string, loadPercent: number | null, status: AgentStatus): Promise<void> {
    return this.db.transaction(async (tx) => {
      const [rows] = await tx.query<[Changed[], number]>(
        `WITH before AS (SELECT id, status FROM agents WHERE id = $1 AND status <> 'deregistered' FOR UPDATE)
         UPDATE agents a SET last_seen_at = now(), load_percent = coalesce($2, a.load_percent),
           status = CASE WHEN a.held THEN a.status ELSE $3 END
         FROM before b WHERE a.id = b.id
         RETURNING a.id, a.name, a.status, b.status AS previous, a.last_seen_at`,
        [agentId, loadPercent, status],
      );
      await this.tell(tx, rows);
    });
  }

  /**
   * Marks offline who was not heard of for three heartbeats: its process or the process that held its link is gone. An
   * agent with an endpoint of its own owes no heartbeats before its first one.
   */
  async sweep(): Promise<void> {
    await this.unlink(
      'missed_heartbeats',
      `(a.status IN ('active', 'degraded') OR a.link_id IS NOT NULL) AND a.status <> 'deregistered'
       AND coalesce(a.last_seen_at, CASE WHEN a.endpoint IS NULL THEN a.registered_at END)
         < now() - make_interval(secs => $1)`,
      [this.graceSeconds],
    );
  }

  /** For the one process of an embedded database: links of its former lives are gone. */
  async clearStale(): Promise<void> {
    await this.unlink('server_restarted', `a.link_id IS NOT NULL AND a.link_node <> $1`, [this.node]);
  }

  /** The events of a change of status; nothing when it is the same. */
  async tell(tx: Tx, changes: Changed[], reason?: OfflineReason): Promise<void> {
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
        const data = { ...fact, last_seen_at: c.last_seen_at?.toISOString() ?? null, reason };
        return [changed, { event: AgentOffline, subject, data }];
      });
    await this.events.publishMany(tx, events);
  }

  private async unlink(reason: OfflineReason, condition: string, params: unknown[]): Promise<void> {
    await this.db.transaction(async (tx) => {
      const [rows] = await tx.query<[Changed[], number]>(
        `WITH before AS (SELECT a.id, a.status FROM agents a WHERE ${condition} ORDER BY a.id FOR UPDATE)
         UPDATE agents a SET link_id = NULL, link_node = NULL, connected_at = NULL,
           status = CASE WHEN a.status IN ('active', 'degraded') THEN 'offline' ELSE a.status END
         FROM before b WHERE a.id = b.id
         RETURNING a.id, a.name, a.status, b.status AS previous, a.last_seen_at`,
        params,
      );
      await this.tell(tx, rows, reason);
    });
  }
}
