import { randomUUID } from 'node:crypto';
import { Injectable, type OnModuleInit } from '@nestjs/common';
import { type FindOptionsWhere, In, IsNull, MoreThan } from 'typeorm';
import { currentContext } from '../../platform/context/index.js';
import { generateOneTimeToken, hashKey, parseOneTimeToken } from '../../platform/crypto/index.js';
import { Database, findForUpdate, insertRow, type Tx } from '../../platform/database/index.js';
import { type Page, pageNewestFirst, type PaginationDto } from '../../platform/http/index.js';
import { publicId } from '../../platform/ids/index.js';
import { Logger, Metrics } from '../../platform/observability/index.js';
import { AccessTokens } from '../access/access-tokens.js';
import { builtInScopes } from '../access/built-in-roles.js';
import { expiredToken, invalidToken } from '../access/presented-credential.js';
import { Revocations } from '../access/revocations.js';
import { Role } from '../roles/role.entity.js';
import { RefreshToken } from './refresh-token.entity.js';
import { Session } from './session.entity.js';
import { User } from './user.entity.js';

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
const IDLE_MS = 14 * 86_400_000;
const DAY_MS = 86_400_000;
const COUNT_EVERY_MS = 5000;

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
          this.set(await db.repository(Session).countBy(live()));
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
    const session = await insertRow(tx, Session, {
      id: randomUUID(),
      userId: user.id,
      ip: context?.ip ?? null,
      userAgent: context?.userAgent?.replaceAll('\0', '').slice(0, 300) ?? null,
      remember,
      expiresAt: new Date(Date.now() + (remember ? 30 : 1) * DAY_MS),
    });
    auditAs(session);
    return { session, tokens: await this.issue(tx, user, session) };
  }

  /**
   * Exchanges a refresh token for new tokens. One that was used before has been copied: the session ends for both.
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
    const token = await findForUpdate(tx, RefreshToken, { hash });
    const session = token && (await tx.findOneBy(Session, { id: token.sessionId, revokedAt: IsNull() }));
    const user = session && (await tx.findOneBy(User, { id: session.userId, status: 'active' }));
    // One that was opened before the user's access ended has ended with it.
    if (!user || session.createdAt < user.notBefore) throw invalidToken('The refresh token is not valid');
    auditAs(session);
    if (token.usedAt) {
      const context = currentContext();
      // The audit entry is written with the end of the session, before the answer.
      if (context) context.expectedStatus = 401;
      await this.end(tx, user.id, [session.id]);
      return 'reused';
    }
    const now = new Date();
    if (token.expiresAt <= now) throw expiredToken();
    await tx.update(RefreshToken, { hash }, { usedAt: now });
    await tx.update(Session, { id: session.id }, { lastSeenAt: now });
    return this.issue(tx, user, session);
  }

  private async issue(tx: Tx, user: SessionOwner, session: Session): Promise<Tokens> {
    const refresh = generateOneTimeToken(REFRESH);
    const expiresAt = new Date(Math.min(Date.now() + IDLE_MS, session.expiresAt.getTime()));
    await tx.insert(RefreshToken, { hash: refresh.hash, sessionId: session.id, expiresAt });
    const custom = await tx.findBy(Role, { name: In(user.roles), deletedAt: IsNull() });
    const scopes = [...builtInScopes(user.roles), ...new Set(custom.flatMap((role) => role.scopes))];
    return {
      access_token: await this.tokens.issue(user.id, session.id, user.roles, scopes),
      refresh_token: refresh.token,
      token_type: 'Bearer',
      expires_in: this.tokens.lifetime,
    };
  }

  /** Ends live sessions of a user with their refresh tokens, at once. @returns the sessions that were live */
  async end(tx: Tx, userId: string, ids: readonly string[] | 'all', except?: string): Promise<string[]> {
    const ended = await tx
      .find(Session, {
        where: { userId, revokedAt: IsNull(), ...(ids === 'all' ? {} : { id: In([...ids]) }) },
        order: { id: 'ASC' },
        lock: { mode: 'pessimistic_write' },
      })
      .then((found) => found.filter(({ id }) => id !== except));
    if (ended.length === 0) return [];
    await tx.update(Session, { id: In(ended.map(({ id }) => id)) }, { revokedAt: new Date() });
    this.revocations.announce(
      tx,
      ended.map(({ id }) => ({ credentialId: publicId('sess', id) })),
    );
    return ended.map(({ id }) => id);
  }

  /** Live sessions of a user, the newest first. */
  live(userId: string, page: Page): Promise<{ rows: Session[]; pagination: PaginationDto }> {
    const list = this.db
      .repository(Session)
      .createQueryBuilder('session')
      .where({ userId, ...live() });
    return pageNewestFirst(list, page);
  }

  /** Whether the user has or had this session; ended ones are known until they would have expired. */
  exists(tx: Tx, userId: string, id: string): Promise<boolean> {
    return tx.existsBy(Session, { id, userId });
  }
}

function live(): FindOptionsWhere<Session> {
  return { revokedAt: IsNull(), expiresAt: MoreThan(new Date()) };
}

/** The request has just proved to belong to this session. */
function auditAs(session: Session): void {
  const context = currentContext();
  if (context) {
    context.auditedAs = { id: publicId('user', session.userId), credentialId: publicId('sess', session.id) };
  }
}
