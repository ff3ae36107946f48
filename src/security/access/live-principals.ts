import { Injectable, type OnModuleInit } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import type { Actor } from '../../platform/context/index.js';
import { hashKey, hashName, parseKey, safeEqual } from '../../platform/crypto/index.js';
import { Database } from '../../platform/database/index.js';
import { type Holder, parsePublicId, publicId } from '../../platform/http/index.js';
import { builtInScopes } from './built-in-roles.js';
import { Revocations } from './revocations.js';
import { credentialRights, grantsOf, rightsOf } from './scopes.js';

/** A credential and who stands behind it, as the database has them. */
export interface Principal {
  readonly actor: Actor;
  /** Unix milliseconds; null when it has no end. */
  readonly expiresAt: number | null;
  /** Access tokens issued before this moment (Unix milliseconds) are void. */
  readonly notBefore: number;
}

interface KeyRow {
  id: string;
  kind: 'api' | 'tok' | 'agent';
  hash: Buffer;
  name: string;
  scopes: string[];
  agent_id: string | null;
  expires_at: Date | null;
  user_id: string | null;
  username: string | null;
  roles: string[] | null;
  role_scopes: string[] | null;
}

interface SessionRow {
  id: string;
  expires_at: Date;
  user_id: string;
  username: string;
  roles: string[];
  role_scopes: string[];
  not_before: number | null;
}

/** A row may be this old, in milliseconds, when a revocation made elsewhere could not be announced (G10). */
const MAX_AGE_MS = 1000;
const MAX_ENTRIES = 20_000;

const ROLE_SCOPES = `
  ARRAY(SELECT DISTINCT scope FROM roles r, unnest(r.scopes) scope WHERE r.name = ANY (u.roles) AND r.deleted_at IS NULL)`;

/**
 * Looks up credentials with their owner and roles. The row decides, never a claim (rule 8); it is remembered for at most a
 * second and forgotten at once when rights change. Refusals are not remembered.
 */
@Injectable()
export class LivePrincipals implements OnModuleInit {
  private readonly known = new LRUCache<string, Principal>({ max: MAX_ENTRIES, ttl: MAX_AGE_MS });
  private loading = new Map<string, Promise<Principal | null>>();
  private epoch = 0;

  constructor(
    private readonly db: Database,
    private readonly revocations: Revocations,
  ) {}

  onModuleInit(): void {
    this.revocations.subscribe(() => this.forget());
  }

  /** All of it: what hangs on a revoked user or role is not worth finding out, and reloading costs little. */
  private forget(): void {
    this.epoch++;
    this.known.clear();
    // Whoever asks from now on must not be given the answer of a query from before.
    this.loading = new Map();
  }

  /** The live key of this text; null when there is none, or it or its owner was disabled. */
  key(text: string): Principal | Promise<Principal | null> {
    // Found again by its hash: only what has been compared is remembered, and the text itself is not kept.
    return this.find(hashName(text), () => this.loadKey(text));
  }

  session(sessionId: string): Principal | Promise<Principal | null> {
    return this.find(sessionId, () => this.loadSession(sessionId));
  }

  /** Not remembered: it is asked when something has changed. With a key that was revoked, has expired or is gone, everything ends. */
  async rightsNow({ actorId, credentialId }: Holder): Promise<Pick<Actor, 'scopes' | 'targetLabels' | 'agentLabels'>> {
    const [row] = await this.db.query<{ roles: string[]; role_scopes: string[]; scopes: string[] | null }>(
      `SELECT u.roles, ${ROLE_SCOPES} AS role_scopes, c.scopes FROM users u LEFT JOIN credentials c ON c.id = $2
       WHERE u.id = $1 AND u.status = 'active'
         AND ($2::uuid IS NULL OR c.revoked_at IS NULL AND (c.expires_at > now() OR c.expires_at IS NULL) AND c.id IS NOT NULL)`,
      [parsePublicId('user', actorId), credentialId && credentialId.slice(credentialId.indexOf('_') + 1)],
    );
    if (!row) return { scopes: new Set() };
    const held = grantsOf([...builtInScopes(row.roles), ...row.role_scopes]);
    return row.scopes ? credentialRights(held, grantsOf(row.scopes)) : rightsOf(held);
  }

  private find(name: string, load: () => Promise<Principal | null>): Principal | Promise<Principal | null> {
    const known = this.known.get(name);
    if (known) return known;
    const { loading, epoch } = this;
    let found = loading.get(name);
    if (!found) {
      const start = performance.now();
      found = load()
        .then((principal) => {
          // The age counts from the question, not from the answer; an answer older than a revocation is not kept.
          if (principal && epoch === this.epoch) this.known.set(name, principal, { start });
          return principal;
        })
        .finally(() => loading.delete(name));
      loading.set(name, found);
    }
    return found;
  }

  private async loadKey(text: string): Promise<Principal | null> {
    const parsed = parseKey(text);
    if (!parsed) return null;
    const [row] = await this.db.query<KeyRow>(
      `SELECT c.id, c.kind, c.hash, c.name, c.scopes, c.agent_id, c.expires_at,
              u.id AS user_id, u.username, u.roles, ${ROLE_SCOPES} AS role_scopes
       FROM credentials c LEFT JOIN users u ON u.id = c.owner_user_id
       WHERE c.key_id = $1 AND c.revoked_at IS NULL AND (u.id IS NULL OR u.status = 'active')`,
      [parsed.keyId],
    );
    if (!row || !safeEqual(row.hash, hashKey(text))) return null;
    const roles = row.kind === 'agent' ? ['agent'] : (row.roles ?? []);
    const held = grantsOf([...builtInScopes(roles), ...(row.role_scopes ?? [])]);
    const actor: Actor = {
      ...(row.agent_id
        ? { id: publicId('agent', row.agent_id), type: 'agent', agentId: row.agent_id, name: row.name }
        : {
            id: publicId('user', row.user_id as string),
            type: row.kind === 'tok' ? 'token' : 'key',
            userId: row.user_id as string,
            name: row.username as string,
            credentialName: row.name,
          }),
      credentialId: publicId(row.kind === 'tok' ? 'token' : 'key', row.id),
      roles,
      ...credentialRights(held, grantsOf(row.scopes)),
      ...(row.expires_at ? { expiresAt: row.expires_at.getTime() } : {}),
    };
    return { actor, expiresAt: row.expires_at?.getTime() ?? null, notBefore: 0 };
  }

  private async loadSession(sessionId: string): Promise<Principal | null> {
    const [row] = await this.db.query<SessionRow>(
      `SELECT s.id, s.expires_at, u.id AS user_id, u.username, u.roles, ${ROLE_SCOPES} AS role_scopes,
              CASE WHEN isfinite(u.not_before) THEN (extract(epoch FROM u.not_before) * 1000)::float8 END AS not_before
       FROM sessions s JOIN users u ON u.id = s.user_id
       WHERE s.id = $1 AND s.revoked_at IS NULL AND u.status = 'active' AND s.created_at >= u.not_before`,
      [sessionId],
    );
    if (!row) return null;
    const actor: Actor = {
      id: publicId('user', row.user_id),
      type: 'user',
      name: row.username,
      credentialId: publicId('sess', row.id),
      roles: row.roles,
      userId: row.user_id,
      ...rightsOf(grantsOf([...builtInScopes(row.roles), ...row.role_scopes])),
    };
    return { actor, expiresAt: row.expires_at.getTime(), notBefore: row.not_before ?? 0 };
  }
}
