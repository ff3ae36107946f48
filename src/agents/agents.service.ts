import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { ArrayContains, IsNull, JsonContains, Not } from 'typeorm';
import { AgentSettings } from './agents.settings.js';
import type { Actor } from '../platform/context/index.js';
import { hashKey, safeEqual } from '../platform/crypto/index.js';
import { Database, findForUpdate, insertIfNew, type Tx } from '../platform/database/index.js';
import { EgressClient } from '../platform/egress/index.js';
import { AppError } from '../platform/errors/index.js';
import { EventBus } from '../platform/events/index.js';
import { assertVersion, type Page, pageNewestFirst, type PaginationDto } from '../platform/http/index.js';
import { publicId } from '../platform/ids/index.js';
import { AgentCredentials } from '../security/index.js';
import type { AgentChanges, AgentStatus } from './agent.js';
import { Agent } from './agent.entity.js';
import { assertMayChange, assertWithin, labelsWithin, trustedLabels } from './agent-limits.js';
import { AgentSigningKeys } from './agent-signing-keys.js';
import { AgentPresence } from './agent-presence.js';
import { AgentRegistered } from './agents.events.js';
import { lockByName } from './agents.queries.js';
import { JoinToken } from './join-token.entity.js';

/** `reportedLabels`: what the agent says of itself; `labels` overrule it. */
export type NewAgent = Pick<
  Agent,
  'name' | 'agentType' | 'capabilities' | 'version' | 'endpoint' | 'authentication' | 'labels' | 'status'
> &
  Partial<Pick<Agent, 'reportedLabels'>>;

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
    const agent = await insertIfNew(tx, Agent, { ...given, id });
    if (!agent) {
      throw AppError.conflict(
        `There is an agent named ${given.name} already; deregister it first or take another name`,
        { field: 'agent_name' },
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

  /** Newest first; without a status deregistered agents are left out. An agent sees itself alone. */
  list(actor: Actor, filter: AgentFilter, page: Page): Promise<{ rows: Agent[]; pagination: PaginationDto }> {
    const list = this.db
      .repository(Agent)
      .createQueryBuilder('agent')
      .where({
        status: filter.status ?? Not('deregistered'),
        ...(filter.capability === undefined ? {} : { capabilities: ArrayContains([filter.capability]) }),
        ...(filter.type === undefined ? {} : { agentType: filter.type }),
        ...(filter.labels === undefined ? {} : { allLabels: JsonContains(filter.labels) }),
        ...(actor.agentId === undefined ? {} : { id: actor.agentId }),
      });
    return pageNewestFirst(list, page, 'registeredAt');
  }

  /** @throws AppError `not_found`, also for an agent that asks for another */
  async get(actor: Actor, id: string): Promise<Agent> {
    const mayRead = actor.agentId === undefined || actor.agentId === id;
    const agent = mayRead ? await this.db.repository(Agent).findOneBy({ id }) : null;
    if (!agent) throw AppError.notFound('agent', publicId('agent', id));
    return agent;
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
      const agent = await this.lock(tx, actor, id);
      const previous = agent.status;
      if (previous === 'deregistered') throw AppError.conflict('A deregistered agent cannot be changed');
      assertVersion(expected, agent.rowVersion);
      agent.capabilities = changes.capabilities ?? agent.capabilities;
      agent.labels = changes.labels ?? agent.labels;
      agent.version = changes.version ?? agent.version;
      if (changes.endpoint !== undefined) agent.endpoint = changes.endpoint;
      if (changes.status) {
        agent.held = changes.status !== 'active';
        agent.status = this.statusAfter(agent, changes.status);
      }
      // Raises the version of the row even when the values are the same as before.
      agent.updatedAt = new Date();
      await tx.save(agent);
      await this.presence.publishChanges(tx, [{ ...agent, previous }]);
      return agent;
    });
  }

  /** Takes the agent out of the registry; its keys are void and its link is cut. Twice is the same as once. */
  deregister(actor: Actor, id: string): Promise<Agent> {
    return this.db.transaction(async (tx) => {
      const agent = await this.lock(tx, actor, id);
      const previous = agent.status;
      if (previous === 'deregistered') return agent;
      await tx.save(Object.assign(agent, { status: 'deregistered', linkId: null, linkNode: null, connectedAt: null }));
      await this.credentials.revokeAll(tx, id);
      await this.signingKeys.remove(tx, id);
      await this.presence.publishChanges(tx, [{ ...agent, previous }]);
      return agent;
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
      const present = await lockByName(tx, host.name);
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
    const agent = await findForUpdate(tx, Agent, { id, lastSeenAt: IsNull(), status: Not('deregistered') });
    return agent ? { agent, ...(await this.rotate(tx, id)) } : null;
  }

  /** Issues new keys and voids the old ones; the open link, made with an old one, is cut. */
  rotateKey(actor: Actor, id: string): Promise<AgentKeys> {
    return this.db.transaction(async (tx) => {
      const agent = await this.lock(tx, actor, id);
      if (agent.status === 'deregistered') throw AppError.conflict('A deregistered agent has no key');
      // A repeated join must not void the keys that the operator is shown.
      await tx.update(JoinToken, { usedByAgent: id }, { nonceHash: null });
      return this.rotate(tx, id);
    });
  }

  private async rotate(tx: Tx, id: string): Promise<AgentKeys> {
    const { key } = await this.credentials.rotate(tx, id);
    return { key, signingKey: await this.signingKeys.rotate(tx, id) };
  }

  /** @throws AppError `not_found`; `forbidden` for an agent outside of the labels the actor is limited to */
  private async lock(tx: Tx, actor: Actor, id: string): Promise<Agent> {
    const agent = await findForUpdate(tx, Agent, { id });
    if (!agent) throw AppError.notFound('agent', publicId('agent', id));
    assertWithin(actor, trustedLabels(agent, this.settings.selfReportedLabels));
    return agent;
  }

  /** The status of an agent that an operator sets to `wanted`; one that is released is as its presence says. */
  private statusAfter({ status, linkId, lastSeenAt }: Agent, wanted: NonNullable<AgentChanges['status']>): AgentStatus {
    if (wanted !== 'active') return wanted;
    if (status === 'degraded') return status;
    const goneBefore = Date.now() - 1000 * this.presence.graceSeconds;
    return linkId === null && lastSeenAt !== null && lastSeenAt.getTime() < goneBefore ? 'offline' : 'active';
  }
}
