import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { AgentSettings } from './agents.settings.js';
import type { Actor } from '../platform/context/index.js';
import { hashKey, safeEqual } from '../platform/crypto/index.js';
import { Database, type Tx } from '../platform/database/index.js';
import { EgressClient } from '../platform/egress/index.js';
import { AppError } from '../platform/errors/index.js';
import { EventBus } from '../platform/events/index.js';
import { type Page, pageOf, type PaginationDto, publicId, timeAndIdAfter } from '../platform/http/index.js';
import { AgentCredentials } from '../security/index.js';
import { type Agent, AGENT_COLUMNS, type AgentChanges, type AgentStatus } from './agent.js';
import { assertMayChange, assertWithin, labelsWithin, trustedLabels } from './agent-limits.js';
import { AgentSigningKeys } from './agent-signing-keys.js';
import { AgentPresence } from './agent-presence.js';
import { AgentRegistered } from './agents.events.js';

export interface NewAgent {
  name: string;
  agentType: string;
  capabilities: string[];
  version: string;
  endpoint: string | null;
  authentication: Agent['authentication'];
  labels: Record<string, string>;
  /** What the agent says of itself; `labels` overrule it. */
  reportedLabels?: Record<string, string>;
  status: AgentStatus;
}

/** What an agent is told once: the key it shows, and the public key that checks its commands. */
export interface AgentKeys {
  key: string;
  signingKey: string;
}

export interface AgentFilter {
  status?: AgentStatus;
  capability?: string;
  type?: string;
  labels?: Record<string, string>;
}

/** The registry of agents: hosts, AI agents and services. */
@Injectable()
export class AgentsService {
  constructor(
    private readonly db: Database,
    private readonly events: EventBus,
    private readonly credentials: AgentCredentials,
    private readonly signingKeys: AgentSigningKeys,
    private readonly presence: AgentPresence,
    private readonly settings: AgentSettings,
    private readonly egress: EgressClient,
  ) {}

  /**
   * An agent that is registered by an actor who is limited by labels gets these labels.
   * @throws AppError `validation` when the endpoint may not be reached; `forbidden` for other labels; else as {@link create}
   */
  async register(actor: Actor, given: NewAgent): Promise<{ agent: Agent } & AgentKeys> {
    const agent = { ...given, labels: labelsWithin(actor, given.labels) };
    if (agent.endpoint) await this.egress.assertAllowed(agent.endpoint, 'endpoint');
    return this.db.transaction((tx) => this.create(tx, agent));
  }

  /**
   * Adds an agent and issues its keys.
   * @throws AppError `conflict` when the name is taken
   */
  async create(tx: Tx, given: NewAgent, id: string = randomUUID()): Promise<{ agent: Agent } & AgentKeys> {
    const rows = await tx.query<Agent[]>(
      `INSERT INTO agents AS a (id, name, agent_type, capabilities, version, endpoint, authentication, labels, status,
         reported_labels)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
       ON CONFLICT (lower(name)) WHERE status <> 'deregistered' DO NOTHING
       RETURNING ${AGENT_COLUMNS}`,
      [
        id,
        given.name,
        given.agentType,
        given.capabilities,
        given.version,
        given.endpoint,
        given.authentication,
        JSON.stringify(given.labels),
        given.status,
        JSON.stringify(given.reportedLabels ?? {}),
      ],
    );
    const agent = rows[0];
    if (!agent) {
      throw AppError.conflict(
        `There is an agent named ${given.name} already; deregister it first or take another name`,
        {
          field: 'agent_name',
        },
      );
    }
    const subject = publicId('agent', agent.id);
    await this.events.publish(tx, AgentRegistered, subject, {
      agent_id: subject,
      agent_name: agent.name,
      agent_type: agent.agentType,
    });
    const { key } = await this.credentials.issue(tx, { agentId: agent.id, name: agent.name });
    return { agent, key, signingKey: await this.signingKeys.publicKey(tx, agent.id) };
  }

  /** Newest first; without a status deregistered agents are left out. An agent sees itself alone (rule 22). */
  async list(actor: Actor, filter: AgentFilter, page: Page): Promise<{ rows: Agent[]; pagination: PaginationDto }> {
    const where = `
      CASE WHEN $1::text IS NULL THEN a.status <> 'deregistered' ELSE a.status = $1 END
      AND ($2::text IS NULL OR $2 = ANY (a.capabilities))
      AND ($3::text IS NULL OR a.agent_type = $3)
      AND a.all_labels @> $4::jsonb
      AND ($5::uuid IS NULL OR a.id = $5)`;
    const params = [
      filter.status ?? null,
      filter.capability ?? null,
      filter.type ?? null,
      JSON.stringify(filter.labels ?? {}),
      actor.agentId ?? null,
    ];
    const [found, [{ total }]] = await Promise.all([
      this.db.query<Agent>(
        `SELECT ${AGENT_COLUMNS} FROM agents a
         WHERE ${where} AND ($8::timestamptz IS NULL OR (a.registered_at, a.id) < ($8, $9::uuid))
         ORDER BY a.registered_at DESC, a.id DESC LIMIT $6 OFFSET $7`,
        [...params, page.limit + 1, page.offset, ...timeAndIdAfter(page)],
      ),
      this.db.query<{ total: number }>(`SELECT count(*)::int AS total FROM agents a WHERE ${where}`, params),
    ]);
    return pageOf(page, found, total, (last) => [last.registeredAt, last.id]);
  }

  /** @throws AppError `not_found`, also for an agent that asks for another */
  async get(actor: Actor, id: string): Promise<Agent> {
    const rows =
      actor.agentId !== undefined && actor.agentId !== id
        ? []
        : await this.db.query<Agent>(`SELECT ${AGENT_COLUMNS} FROM agents a WHERE a.id = $1`, [id]);
    if (!rows[0]) throw AppError.notFound('agent', publicId('agent', id));
    return rows[0];
  }

  /**
   * Changes what is given. `maintenance` and `inactive` hold until `active` is set again: neither heartbeats nor
   * reconnects overrule them.
   * @throws AppError `precondition` when `expected` is not the current version; `validation` on a forbidden endpoint;
   *   `forbidden` without the scope for a change, and outside of the labels the actor is limited to
   */
  async update(actor: Actor, id: string, changes: AgentChanges, expected?: number): Promise<Agent> {
    assertMayChange(actor, changes);
    if (changes.labels) assertWithin(actor, changes.labels);
    if (changes.endpoint) await this.egress.assertAllowed(changes.endpoint, 'endpoint');
    return this.db.transaction(async (tx) => {
      const current = await this.lock(tx, actor, id);
      if (current.status === 'deregistered') throw AppError.conflict('A deregistered agent cannot be changed');
      if (expected !== undefined && expected !== current.rowVersion) {
        throw new AppError('precondition', 'The agent has changed since it was read');
      }
      const [rows] = await tx.query<[Agent[], number]>(
        `UPDATE agents a SET capabilities = coalesce($2, a.capabilities), labels = coalesce($3, a.labels),
           version = coalesce($4, a.version), endpoint = CASE WHEN $5 THEN $6 ELSE a.endpoint END,
           held = CASE WHEN $7::text IS NULL THEN a.held ELSE $7 <> 'active' END,
           status = CASE
             WHEN $7::text IS NULL OR ($7 = 'active' AND a.status = 'degraded') THEN a.status
             WHEN $7 <> 'active' THEN $7
             WHEN a.link_id IS NULL AND a.last_seen_at < now() - make_interval(secs => $8) THEN 'offline'
             ELSE 'active' END,
           updated_at = now(), row_version = a.row_version + 1
         WHERE a.id = $1
         RETURNING ${AGENT_COLUMNS}`,
        [
          id,
          changes.capabilities ?? null,
          changes.labels ? JSON.stringify(changes.labels) : null,
          changes.version ?? null,
          changes.endpoint !== undefined,
          changes.endpoint ?? null,
          changes.status ?? null,
          this.presence.graceSeconds,
        ],
      );
      const agent = rows[0];
      await this.presence.tell(tx, [
        { id, name: agent.name, status: agent.status, previous: current.status, last_seen_at: agent.lastSeenAt },
      ]);
      return agent;
    });
  }

  /** Takes the agent out of the registry; its keys are void and its link is cut. Twice is the same as once. */
  deregister(actor: Actor, id: string): Promise<Agent> {
    return this.db.transaction(async (tx) => {
      const current = await this.lock(tx, actor, id);
      if (current.status === 'deregistered') return current;
      const [rows] = await tx.query<[Agent[], number]>(
        `UPDATE agents a SET status = 'deregistered', link_id = NULL, link_node = NULL, connected_at = NULL,
           updated_at = now(), row_version = a.row_version + 1
         WHERE a.id = $1
         RETURNING ${AGENT_COLUMNS}`,
        [id],
      );
      await this.credentials.revokeAll(tx, id);
      await this.signingKeys.remove(tx, id);
      await this.presence.tell(tx, [
        { id, name: current.name, status: 'deregistered', previous: current.status, last_seen_at: null },
      ]);
      return rows[0];
    });
  }

  /**
   * Takes a heartbeat of an agent without a link.
   * @returns milliseconds until the next one is due
   * @throws AppError `forbidden` when an agent beats for another
   */
  async heartbeat(
    actor: Actor,
    id: string,
    beat: { loadPercent: number | null; status: AgentStatus },
  ): Promise<number> {
    if (actor.agentId !== id) throw AppError.forbidden('An agent sends heartbeats for itself only');
    await this.presence.heartbeat(id, beat.loadPercent, beat.status);
    return this.settings.heartbeatSeconds * 1000;
  }

  /**
   * The host of this name with keys that work: the key given when it still does, else new ones. For the machine that Nexus
   * itself runs on.
   */
  async ensureHost(
    host: { name: string; version: string; labels: Record<string, string> },
    known: { agentId: string; key: string } | null,
  ): Promise<{ agentId: string } & AgentKeys> {
    const hash = known && hashKey(known.key);
    const works = hash && (await this.credentials.keyHashes(known.agentId)).some((live) => safeEqual(live, hash));
    return this.db.transaction(async (tx) => {
      if (works) return { ...known, signingKey: await this.signingKeys.publicKey(tx, known.agentId) };
      const [present] = await tx.query<({ id: string } | undefined)[]>(
        `SELECT id FROM agents WHERE lower(name) = lower($1) AND status <> 'deregistered' FOR UPDATE`,
        [host.name],
      );
      if (present) return { agentId: present.id, ...(await this.rotate(tx, present.id)) };
      const { agent, key, signingKey } = await this.create(tx, {
        ...host,
        agentType: 'host',
        capabilities: [],
        endpoint: null,
        authentication: null,
        status: 'offline',
      });
      return { agentId: agent.id, key, signingKey };
    });
  }

  /** New keys instead of those that an agent was given and has not used yet; null when it has been heard of since, or is gone. */
  async reissue(tx: Tx, id: string): Promise<({ agent: Agent } & AgentKeys) | null> {
    const [agent] = await tx.query<(Agent | undefined)[]>(
      `SELECT ${AGENT_COLUMNS} FROM agents a
       WHERE a.id = $1 AND a.last_seen_at IS NULL AND a.status <> 'deregistered' FOR UPDATE`,
      [id],
    );
    return agent ? { agent, ...(await this.rotate(tx, id)) } : null;
  }

  /** Issues new keys and voids the old ones; the open link, made with an old one, is cut. */
  rotateKey(actor: Actor, id: string): Promise<AgentKeys> {
    return this.db.transaction(async (tx) => {
      const agent = await this.lock(tx, actor, id);
      if (agent.status === 'deregistered') throw AppError.conflict('A deregistered agent has no key');
      // A repeated join must not void the keys that the operator is shown.
      await tx.query(`UPDATE agent_join_tokens SET nonce_hash = NULL WHERE used_by_agent = $1`, [id]);
      return this.rotate(tx, id);
    });
  }

  private async rotate(tx: Tx, id: string): Promise<AgentKeys> {
    const { key } = await this.credentials.rotate(tx, id);
    return { key, signingKey: await this.signingKeys.rotate(tx, id) };
  }

  /** @throws AppError `not_found`; `forbidden` for an agent outside of the labels the actor is limited to */
  private async lock(tx: Tx, actor: Actor, id: string): Promise<Agent> {
    const rows = await tx.query<Agent[]>(`SELECT ${AGENT_COLUMNS} FROM agents a WHERE a.id = $1 FOR UPDATE`, [id]);
    if (!rows[0]) throw AppError.notFound('agent', publicId('agent', id));
    assertWithin(actor, trustedLabels(rows[0], this.settings.selfReportedLabels));
    return rows[0];
  }
}
