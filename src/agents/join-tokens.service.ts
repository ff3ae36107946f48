import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import type { JoinRequest } from '@nexus/agent/protocol';
import { type Actor, actsOn } from '../platform/context/index.js';
import { generateOneTimeToken, hashKey, parseOneTimeToken } from '../platform/crypto/index.js';
import { assertRoom, Database, type Tx } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { type Page, pageOf, type PaginationDto, publicId, timeAndIdAfter } from '../platform/http/index.js';
import { ownerOf } from '../platform/ownership/index.js';
import type { Agent } from './agent.js';
import { assertWithin, labelsWithin } from './agent-limits.js';
import { type AgentKeys, AgentsService } from './agents.service.js';

const PREFIX = 'nexus_join';
/** Of everybody together. */
const MAX_UNUSED = 1000;

export interface JoinToken {
  id: string;
  preview: string;
  labels: Record<string, string>;
  createdBy: string;
  createdAt: Date;
  expiresAt: Date;
  usedAt: Date | null;
  usedByAgent: string | null;
  revokedAt: Date | null;
}

const COLUMNS = `id, preview, labels, created_by AS "createdBy", created_at AS "createdAt", expires_at AS "expiresAt",
  used_at AS "usedAt", used_by_agent AS "usedByAgent", revoked_at AS "revokedAt"`;

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
        count: `SELECT count(*)::int AS count FROM agent_join_tokens
                WHERE used_at IS NULL AND revoked_at IS NULL AND expires_at > now()`,
      });
      const [row] = await tx.query<JoinToken[]>(
        `INSERT INTO agent_join_tokens (id, hash, preview, labels, created_by, owner_credential, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7)) RETURNING ${COLUMNS}`,
        [randomUUID(), hash, preview, JSON.stringify(labels), actor.id, ownerOf(actor).credentialId, expiresInSeconds],
      );
      actsOn(publicId('join', row.id));
      return { token, row };
    });
  }

  /** Newest first; an actor who is limited by labels sees only tokens with these. */
  async list(actor: Actor, page: Page): Promise<{ rows: JoinToken[]; pagination: PaginationDto }> {
    const within = JSON.stringify(actor.agentLabels ?? {});
    const [found, [{ total }]] = await Promise.all([
      this.db.query<JoinToken>(
        `SELECT ${COLUMNS} FROM agent_join_tokens
         WHERE labels @> $3::jsonb
           AND ($4::timestamptz IS NULL OR (date_trunc('milliseconds', created_at), id) < ($4, $5::uuid))
         ORDER BY date_trunc('milliseconds', created_at) DESC, id DESC LIMIT $1 OFFSET $2`,
        [page.limit + 1, page.offset, within, ...timeAndIdAfter(page)],
      ),
      this.db.query<{ total: number }>(
        `SELECT count(*)::int AS total FROM agent_join_tokens WHERE labels @> $1::jsonb`,
        [within],
      ),
    ]);
    return pageOf(page, found, total, (last) => [last.createdAt, last.id]);
  }

  /**
   * Voids a token that was not used; a used one stays as it is, but no join can be repeated with it. Twice is the same as once.
   * @throws AppError `not_found`; `forbidden` for one outside of the labels the actor is limited to
   */
  revoke(actor: Actor, id: string): Promise<JoinToken> {
    return this.db.transaction(async (tx) => {
      const [rows] = await tx.query<[JoinToken[], number]>(
        `UPDATE agent_join_tokens
         SET revoked_at = CASE WHEN used_at IS NULL THEN coalesce(revoked_at, now()) END, nonce_hash = NULL
         WHERE id = $1 RETURNING ${COLUMNS}`,
        [id],
      );
      if (!rows[0]) throw AppError.notFound('join token', publicId('join', id));
      assertWithin(actor, rows[0].labels);
      return rows[0];
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
      const [rows] = parseOneTimeToken(request.token, PREFIX)
        ? await tx.query<[{ labels: Record<string, string> }[], number]>(
            `UPDATE agent_join_tokens SET used_at = now(), used_by_agent = $2, nonce_hash = $3
             WHERE hash = $1 AND used_at IS NULL AND revoked_at IS NULL AND expires_at > now()
             RETURNING labels`,
            [hashKey(request.token), agentId, request.nonce === undefined ? null : hashKey(request.nonce)],
          )
        : [[]];
      if (!rows[0]) return this.repeat(tx, request);
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
          labels: rows[0].labels,
          reportedLabels: request.labels,
          status: 'offline',
        },
        agentId,
      );
    });
  }

  private async repeat(tx: Tx, { token, nonce }: JoinRequest): Promise<{ agent: Agent } & AgentKeys> {
    const [row] =
      nonce === undefined
        ? []
        : await tx.query<({ agentId: string } | undefined)[]>(
            `SELECT used_by_agent AS "agentId" FROM agent_join_tokens
             WHERE hash = $1 AND nonce_hash = $2 AND revoked_at IS NULL AND expires_at > now() FOR UPDATE`,
            [hashKey(token), hashKey(nonce)],
          );
    // Before the key that ends is named.
    if (row) actsOn(publicId('agent', row.agentId));
    const again = row && (await this.agents.reissue(tx, row.agentId));
    if (!again) throw AppError.unauthenticated('TOKEN_INVALID', 'The join token is not valid (any more)');
    return again;
  }
}
