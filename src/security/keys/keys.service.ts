import { Injectable } from '@nestjs/common';
import { type Actor, actorHas, actsOn } from '../../platform/context/index.js';
import { assertRoom, Database } from '../../platform/database/index.js';
import { AppError } from '../../platform/errors/index.js';
import { type PageQueryDto, type PaginationDto, resolvePage } from '../../platform/http/index.js';
import { SecurityAlerts } from '../alerts/security-alerts.js';
import { formatGrant, grantable, parseGrant } from '../access/scopes.js';
import { userIdOf } from '../accounts/users.js';
import type { Credential } from './credential.entity.js';
import { credentialId, Credentials } from './credentials.js';
import { DEFAULT_DAYS } from './keys.dto.js';

type Kind = 'api' | 'tok';

export interface KeyRequest {
  name: string;
  description?: string;
  scopes: readonly string[];
  /** Field of the request that holds the scopes, for the refusal. */
  field: string;
  expiresInDays?: number | null;
}

/** Of one user, keys and tokens together. */
const MAX_LIVE = 200;
const DAY_MS = 86_400_000;
const SIZES = { default: 20, max: 100 };

/** People making and revoking keys: API keys of their own, and tokens, which security admins see all of. */
@Injectable()
export class KeysService {
  constructor(
    private readonly db: Database,
    private readonly credentials: Credentials,
    private readonly alerts: SecurityAlerts,
  ) {}

  /**
   * The key belongs to the caller's user and never does more than that user may at the time of use.
   * One that is made with a key ends with that.
   * @throws AppError `validation` for an unknown scope, `forbidden` for one the caller does not hold, and for a life beyond that of the
   *   key that is used; `conflict` when the user has {@link MAX_LIVE}
   */
  create(actor: Actor, kind: Kind, request: KeyRequest): Promise<{ credential: Credential; key: string }> {
    const ownerUserId = userIdOf(actor);
    const scopes = grantedTo(actor, request.scopes, request.field);
    const { name, description } = request;
    // A null in the request means the default too, never a key without an end.
    const expiresInDays = request.expiresInDays ?? DEFAULT_DAYS;
    return this.db.transaction(async (tx) => {
      const parent = await this.credentials.lockUsed(tx, actor);
      const notAfter = parent?.expiresAt;
      if (notAfter && request.expiresInDays && Date.now() + request.expiresInDays * DAY_MS > notAfter.getTime()) {
        throw AppError.forbidden('A key cannot make one that outlives it', { expires_at: notAfter.toISOString() });
      }
      await assertRoom(tx, {
        lock: 'security.keys',
        noun: 'live keys and tokens of this user',
        max: MAX_LIVE,
        count: () => this.credentials.countLive(tx, ownerUserId),
      });
      const wanted = { kind, name, description, ownerUserId, scopes, expiresInDays, parent };
      const made = await this.credentials.create(tx, wanted);
      actsOn(credentialId(made.credential));
      const what = 'A key with far-reaching scopes was made';
      await this.alerts.rightsGranted(tx, credentialId(made.credential), what, scopes);
      return made;
    });
  }

  /** API keys: the caller's. Tokens: for a security admin those of everyone. */
  list(actor: Actor, kind: Kind, query: PageQueryDto): Promise<{ rows: Credential[]; pagination: PaginationDto }> {
    const owner = kind === 'tok' ? this.ownerSeenBy(actor) : userIdOf(actor);
    return this.credentials.list(kind, owner, resolvePage(query, SIZES));
  }

  /** @throws AppError `not_found`, also for one of somebody else */
  async get(actor: Actor, kind: Kind, id: string): Promise<Credential> {
    const found = await this.credentials.find(this.db.manager, kind, id, this.ownerSeenBy(actor));
    if (!found) throw AppError.notFound(kind === 'tok' ? 'Token' : 'API key', credentialId({ kind, id }));
    return found;
  }

  /**
   * Ends a key and, unless they are to be kept, those that were made with it. Revoking again gives the same answer.
   * @throws AppError `not_found`; `forbidden` when a key is used to revoke one that may do more, or to keep any
   */
  revoke(actor: Actor, kind: Kind, id: string, keepChildren = false): Promise<Credential> {
    // Else a key could outlive the one it was made with.
    if (keepChildren && actor.type !== 'user') throw AppError.forbidden('Keeping the children of a key needs a login');
    return this.db.transaction(async (tx) => {
      const found = await this.credentials.find(tx, kind, id, this.ownerSeenBy(actor));
      if (!found) throw AppError.notFound(kind === 'tok' ? 'Token' : 'API key', credentialId({ kind, id }));
      if (actor.type !== 'user' && !actorHas(actor, 'security:admin')) grantedTo(actor, found.scopes, 'scopes');
      if (keepChildren) await this.credentials.releaseChildren(tx, id);
      const [revoked] = await this.credentials.revoke(tx, [id]);
      // None when another request was faster.
      return revoked ?? (await this.credentials.find(tx, kind, id, null)) ?? found;
    });
  }

  private ownerSeenBy(actor: Actor): string | null {
    return actorHas(actor, 'security:admin') ? null : userIdOf(actor);
  }
}

/**
 * The scopes as they are granted, canonical, without repetition.
 * @throws AppError `validation` for an unknown one, `forbidden` for one beyond the actor's own
 */
export function grantedTo(actor: Actor, texts: readonly string[], field: string): string[] {
  const granted = texts.map((text, index) => {
    const wanted = parseGrant(text);
    if (!wanted) {
      throw AppError.validation({
        field: `${field}.${index}`,
        issue: 'is not a known scope',
        expected: 'a permission of GET /auth/roles',
        location: 'body',
      });
    }
    const grant = grantable(actor, wanted);
    if (!grant) {
      throw AppError.forbidden(`The scope ${formatGrant(wanted)} is more than the caller has`, {
        required_scopes: [formatGrant(wanted)],
      });
    }
    return formatGrant(grant);
  });
  return [...new Set(granted)];
}
