import { randomUUID } from 'node:crypto';
import { Injectable, type OnModuleInit } from '@nestjs/common';
import { currentContext } from '../../platform/context/index.js';
import { generateOneTimeToken, hashKey, parseOneTimeToken } from '../../platform/crypto/index.js';
import { Database, type Tx } from '../../platform/database/index.js';
import { type Page, publicId, timeAndIdAfter } from '../../platform/http/index.js';
import { Logger, Metrics } from '../../platform/observability/index.js';
import { AccessTokens } from '../access/access-tokens.js';
import { builtInScopes } from '../access/built-in-roles.js';
import { expiredToken, invalidToken } from '../access/presented-credential.js';
import { Revocations } from '../access/revocations.js';

export interface Session {
  id: string;
  user_id: string;
  ip: string | null;
  user_agent: string | null;
  created_at: Date;
  last_seen_at: Date;
  expires_at: Date;
  revoked_at: Date | null;
}

export interface Tokens {
  access_token: string;
  refresh_token: string;
  token_type: 'Bearer';
  /** Seconds until the access token expires. */
  expires_in: number;
}

interface SessionOwner {
  id: string;
  roles: string[];
}

const REFRESH = 'nexus_refresh';
/** A session that is not refreshed for so long is over. */
const IDLE = `interval '14 days'`;
const COUNT_EVERY_MS = 5000;
const LIVE = `revoked_at IS NULL AND expires_at > now()`;

/** Logins: an access token that lives an hour, and a refresh token that is used once and replaced. */
@Injectable()
export class Sessions implements OnModuleInit {
  constructor(
    private readonly db: Database,
    private readonly tokens: AccessTokens,
    private readonly revocations: Revocations,
    private readonly logger: Logger,
    private readonly metrics: Metrics,
  ) {}

  onModuleInit(): void {
    const { db, logger } = this;
    // Probes read it too, and anyone may ask for those.
    let countedAt = -Infinity;
    this.metrics.sharedGauge(
      'nexus_active_sessions',
      'Logins that are neither ended nor expired',
      [],
      async function () {
        if (performance.now() - countedAt < COUNT_EVERY_MS) return;
        countedAt = performance.now();
        try {
          const [{ live }] = await db.query<{ live: number }>(
            `SELECT count(*)::int AS live FROM sessions WHERE ${LIVE}`,
          );
          this.set(live);
        } catch (error) {
          // A scrape shows what else is known while the database is away.
          logger.warn({ err: String(error) }, 'Active sessions could not be counted');
        }
      },
    );
  }

  /** A session lives thirty days, without `remember` one. */
  async open(tx: Tx, user: SessionOwner, remember: boolean): Promise<{ session: Session; tokens: Tokens }> {
    const context = currentContext();
    const [session] = await tx.query<Session[]>(
      `INSERT INTO sessions (id, user_id, ip, user_agent, remember, expires_at)
       VALUES ($1, $2, $3, $4, $5, now() + CASE WHEN $5 THEN interval '30 days' ELSE interval '1 day' END) RETURNING *`,
      [
        randomUUID(),
        user.id,
        context?.ip ?? null,
        context?.userAgent?.replaceAll('\0', '').slice(0, 300) ?? null,
        remember,
      ],
    );
    auditAs(session);
    return { session, tokens: await this.issue(tx, user, session) };
  }

  /**
   * Exchanges a refresh token for new tokens. One that was used before has been copied: the session ends for both (rule 10).
   * @throws AppError `unauthenticated`
   */
  async refresh(refreshToken: string): Promise<Tokens> {
    if (!parseOneTimeToken(refreshToken, REFRESH)) throw invalidToken('The refresh token is not valid');
    // Refused only after the commit: the end of a session that was stolen must not be rolled back.
    const outcome = await this.db.transaction((tx) => this.rotate(tx, hashKey(refreshToken)));
    if (outcome === 'reused') throw invalidToken('The refresh token was used before; the session has ended');
    return outcome;
  }

  private async rotate(tx: Tx, hash: Buffer): Promise<Tokens | 'reused'> {
    const [row] = await tx.query<
      (Session & { used_at: Date | null; expired: boolean; session_id: string; roles: string[] })[]
    >(
      `SELECT s.*, r.used_at, r.expires_at <= now() AS expired, u.roles
       FROM refresh_tokens r JOIN sessions s ON s.id = r.session_id JOIN users u ON u.id = s.user_id
       WHERE r.hash = $1 AND s.revoked_at IS NULL AND u.status = 'active' AND s.created_at >= u.not_before
       FOR UPDATE OF r`,
      [hash],
    );
    if (!row) throw invalidToken('The refresh token is not valid');
    auditAs(row);
    if (row.used_at) {
      const context = currentContext();
      // The audit entry is written with the end of the session, before the answer.
      if (context) context.expectedStatus = 401;
      await this.end(tx, row.user_id, [row.id]);
      return 'reused';
    }
    if (row.expired) throw expiredToken();
    await tx.query(`UPDATE refresh_tokens SET used_at = now() WHERE hash = $1`, [hash]);
    await tx.query(`UPDATE sessions SET last_seen_at = now() WHERE id = $1`, [row.id]);
    return this.issue(tx, { id: row.user_id, roles: row.roles }, row);
  }

  private async issue(tx: Tx, user: SessionOwner, session: Session): Promise<Tokens> {
    const refresh = generateOneTimeToken(REFRESH);
    await tx.query(
      `INSERT INTO refresh_tokens (hash, session_id, expires_at) VALUES ($1, $2, least(now() + ${IDLE}, $3::timestamptz))`,
      [refresh.hash, session.id, session.expires_at],
    );
    const custom = await tx.query<{ scope: string }[]>(
      `SELECT DISTINCT unnest(scopes) AS scope FROM roles WHERE name = ANY ($1) AND deleted_at IS NULL`,
      [user.roles],
    );
    const scopes = [...builtInScopes(user.roles), ...custom.map(({ scope }) => scope)];
    return {
      access_token: await this.tokens.issue(user.id, session.id, user.roles, scopes),
      refresh_token: refresh.token,
      token_type: 'Bearer',
      expires_in: this.tokens.lifetime,
    };
  }

  /** Ends live sessions of a user with their refresh tokens; at once (G10). @returns the sessions that were live */
  async end(tx: Tx, userId: string, ids: readonly string[] | 'all', except?: string): Promise<string[]> {
    const [ended] = await tx.query<[{ id: string }[], number]>(
      `UPDATE sessions SET revoked_at = now()
       WHERE user_id = $1 AND revoked_at IS NULL AND ($2::uuid[] IS NULL OR id = ANY ($2)) AND id IS DISTINCT FROM $3
       RETURNING id`,
      [userId, ids === 'all' ? null : ids, except ?? null],
    );
    this.revocations.announce(
      tx,
      ended.map(({ id }) => ({ credentialId: publicId('sess', id) })),
    );
    return ended.map(({ id }) => id);
  }

  /** Live sessions of a user, the newest first; one more than the page takes. */
  async live(userId: string, page: Page): Promise<{ found: Session[]; total: number }> {
    const found = await this.db.query<Session>(
      `SELECT * FROM sessions WHERE user_id = $1 AND ${LIVE}
         AND ($4::timestamptz IS NULL OR (created_at, id) < ($4, $5::uuid))
       ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3`,
      [userId, page.limit + 1, page.offset, ...timeAndIdAfter(page)],
    );
    const [{ total }] = await this.db.query<{ total: number }>(
      `SELECT count(*)::int AS total FROM sessions WHERE user_id = $1 AND ${LIVE}`,
      [userId],
    );
    return { found, total };
  }

  /** Whether the user has or had this session; ended ones are known until they would have expired. */
  async exists(tx: Tx, userId: string, id: string): Promise<boolean> {
    const rows = await tx.query<unknown[]>(`SELECT 1 FROM sessions WHERE id = $1 AND user_id = $2`, [id, userId]);
    return rows.length > 0;
  }

  /** Deletes sessions whose time is over (AUTH-28). */
  async purge(): Promise<void> {
    await this.db.query(`DELETE FROM sessions WHERE expires_at < now()`);
  }
}

/** The request has just proved to belong to this session. */
function auditAs(session: Session): void {
  const context = currentContext();
  if (context) {
    context.auditedAs = { id: publicId('user', session.user_id), credentialId: publicId('sess', session.id) };
  }
}
