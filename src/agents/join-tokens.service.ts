import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { type FindOptionsWhere, IsNull, JsonContains, MoreThan } from 'typeorm';
import type { JoinRequest } from '@nexus/agent/protocol';
import { type Actor, actsOn } from '../platform/context/index.js';
import { generateOneTimeToken, hashKey, parseOneTimeToken } from '../platform/crypto/index.js';
import { assertRoom, Database, findForUpdate, insertRow, type Tx } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { type Page, pageNewestFirst, type PaginationDto } from '../platform/http/index.js';
import { publicId } from '../platform/ids/index.js';
import { ownerOf } from '../platform/ownership/index.js';
import type { Agent } from './agent.entity.js';
import { JoinToken } from './join-token.entity.js';
import { assertWithin, labelsWithin } from './agent-limits.js';
import { type AgentKeys, AgentsService } from './agents.service.js';

const PREFIX = 'nexus_join';
/** Of everybody together. */
const MAX_UNUSED = 1000;

/** One-time tokens with which a machine enters the registry by itself. Only their hashes are kept. */
@Injectable()
export class JoinTokensService {
  constructor(
    private readonly db: Database,
    private readonly agents: AgentsService,
  ) {}

  /**
   * What joins with the token of an actor who is limited by labels gets these labels.
   * @throws AppError `forbidden` for other labels; `conflict` when there are {@link MAX_UNUSED}
   */
  async create(
    actor: Actor,
    given: Record<string, string>,
    expiresInSeconds: number,
  ): Promise<{ token: string; row: JoinToken }> {
    const labels = labelsWithin(actor, given);
    const { token, hash, preview } = generateOneTimeToken(PREFIX);
    return this.db.transaction(async (tx) => {
      await assertRoom(tx, {
        lock: 'agents.join-tokens',
        noun: 'unused join tokens',
        max: MAX_UNUSED,
        count: () => tx.countBy(JoinToken, usable()),
      });
      const row = await insertRow(tx, JoinToken, {
        id: randomUUID(),
        hash,
        preview,
        labels,
        createdBy: actor.id,
        ownerCredential: ownerOf(actor).credentialId,
        expiresAt: new Date(Date.now() + 1000 * expiresInSeconds),
      });
      actsOn(publicId('join', row.id));
      return { token, row };
    });
  }

  /** Newest first; an actor who is limited by labels sees only tokens with these. */
  list(actor: Actor, page: Page): Promise<{ rows: JoinToken[]; pagination: PaginationDto }> {
    const within = { labels: JsonContains(actor.agentLabels ?? {}) };
    return pageNewestFirst(this.db.repository(JoinToken).createQueryBuilder('token').where(within), page);
  }

  /**
   * Voids a token that was not used; a used one stays as it is, but no join can be repeated with it. Twice is the same as once.
   * @throws AppError `not_found`; `forbidden` for one outside of the labels the actor is limited to
   */
  revoke(actor: Actor, id: string): Promise<JoinToken> {
    return this.db.transaction(async (tx) => {
      const token = await findForUpdate(tx, JoinToken, { id });
      if (!token) throw AppError.notFound('join token', publicId('join', id));
      assertWithin(actor, token.labels);
      if (token.usedAt === null) token.revokedAt ??= new Date();
      token.nonceHash = null;
      return tx.save(token);
    });
  }

  /**
   * Turns a token into an agent with a key. The token is spent if, and only if, the agent is created. Repeated with the same
   * nonce, the join gives the same agent new keys: its answer may have been lost.
   * @throws AppError `unauthenticated`, the same for an unknown, used, revoked and expired token; `conflict` when the name is taken
   */
  join(request: JoinRequest): Promise<{ agent: Agent } & AgentKeys> {
    const agentId = randomUUID();
    return this.db.transaction(async (tx) => {
      const token = parseOneTimeToken(request.token, PREFIX)
        ? await findForUpdate(tx, JoinToken, { hash: hashKey(request.token), ...usable() })
        : null;
      if (!token) return this.repeat(tx, request);
      token.usedAt = new Date();
      token.usedByAgent = agentId;
      token.nonceHash = request.nonce === undefined ? null : hashKey(request.nonce);
      await tx.save(token);
      actsOn(publicId('agent', agentId));
      return this.agents.create(
        tx,
        {
          name: request.agent_name,
          agentType: request.agent_type,
          capabilities: request.capabilities,
          version: request.version,
          endpoint: null,
          authentication: null,
          labels: token.labels,
          reportedLabels: request.labels,
          status: 'offline',
        },
        agentId,
      );
    });
  }

  private async repeat(tx: Tx, { token, nonce }: JoinRequest): Promise<{ agent: Agent } & AgentKeys> {
    const used =
      nonce === undefined
        ? null
        : await findForUpdate(tx, JoinToken, {
            hash: hashKey(token),
            nonceHash: hashKey(nonce),
            revokedAt: IsNull(),
            expiresAt: MoreThan(new Date()),
          });
    const agentId = used?.usedByAgent;
    // Before the key that ends is named.
    if (agentId) actsOn(publicId('agent', agentId));
    const again = agentId && (await this.agents.reissue(tx, agentId));
    if (!again) throw AppError.unauthenticated('TOKEN_INVALID', 'The join token is not valid (any more)');
    return again;
  }
}

function usable(): FindOptionsWhere<JoinToken> {
  return { usedAt: IsNull(), revokedAt: IsNull(), expiresAt: MoreThan(new Date()) };
}
