import type { Pool } from 'pg';
import type { EntityManager } from 'typeorm';
import type { Session } from '../accounts/session.entity.js';
import type { User } from '../accounts/user.entity.js';
import type { Credential } from '../keys/credential.entity.js';

/** What a user holds: the names of the roles, and the scopes of those that are not built in. */
type Held = Pick<User, 'roles'> & { roleScopes: string[] };

const ROLE_SCOPES = `
  ARRAY(SELECT DISTINCT scope FROM roles r, unnest(r.scopes) scope WHERE r.name = ANY (u.roles) AND r.deleted_at IS NULL)`;

/** The key of an agent has no owner. */
export type LiveKey = Pick<Credential, 'id' | 'kind' | 'hash' | 'name' | 'scopes' | 'agentId' | 'expiresAt'> & {
  userId: string | null;
  username: string | null;
  roles: string[] | null;
  roleScopes: string[];
};

/** A key that was not revoked, with its active owner. SQL: the scopes of the owner's roles in the same statement; requests wait for it. */
export async function findLiveKey(db: EntityManager, keyId: string): Promise<LiveKey | undefined> {
  const [key] = await db.query<LiveKey[]>(
    `SELECT c.id, c.kind, c.hash, c.name, c.scopes, c.agent_id AS "agentId", c.expires_at AS "expiresAt",
            u.id AS "userId", u.username, u.roles, ${ROLE_SCOPES} AS "roleScopes"
     FROM credentials c LEFT JOIN users u ON u.id = c.owner_user_id
     WHERE c.key_id = $1 AND c.revoked_at IS NULL AND (u.id IS NULL OR u.status = 'active')`,
    [keyId],
  );
  return key;
}

export type LiveSession = Pick<Session, 'id' | 'userId' | 'expiresAt'> &
  Pick<User, 'username'> &
  Held & {
    /** Unix milliseconds; null: since ever. */
    notBefore: number | null;
  };

/** A session that was not revoked, of an active user. SQL: as {@link findLiveKey}, and -infinity is no Date. */
export async function findLiveSession(db: EntityManager, id: string): Promise<LiveSession | undefined> {
  const [session] = await db.query<LiveSession[]>(
    `SELECT s.id, s.expires_at AS "expiresAt", u.id AS "userId", u.username, u.roles, ${ROLE_SCOPES} AS "roleScopes",
            CASE WHEN isfinite(u.not_before) THEN (extract(epoch FROM u.not_before) * 1000)::float8 END AS "notBefore"
     FROM sessions s JOIN users u ON u.id = s.user_id
     WHERE s.id = $1 AND s.revoked_at IS NULL AND u.status = 'active' AND s.created_at >= u.not_before`,
    [id],
  );
  return session;
}

/**
 * What an active user holds, with the scopes of a key of theirs (null: none is asked for). SQL: as {@link findLiveKey}.
 * @returns undefined as well when the key is not live
 */
export async function findHeld(
  db: EntityManager,
  userId: string | null,
  credentialId: string | null,
): Promise<(Held & { scopes: Credential['scopes'] | null }) | undefined> {
  const [held] = await db.query<(Held & { scopes: Credential['scopes'] | null })[]>(
    `SELECT u.roles, ${ROLE_SCOPES} AS "roleScopes", c.scopes FROM users u LEFT JOIN credentials c ON c.id = $2
     WHERE u.id = $1 AND u.status = 'active'
       AND ($2::uuid IS NULL OR c.revoked_at IS NULL AND (c.expires_at > now() OR c.expires_at IS NULL) AND c.id IS NOT NULL)`,
    [userId, credentialId],
  );
  return held;
}

/** Notes that sessions and keys were used just now. SQL: arrays of any length, on the pool for bulk writes. */
export async function noteUsed(bulk: Pool, sessionIds: readonly string[], keyIds: readonly string[]): Promise<void> {
  await bulk.query(
    `WITH s AS (UPDATE sessions SET last_seen_at = now() WHERE id = ANY ($1::uuid[]))
     UPDATE credentials SET last_used_at = now() WHERE id = ANY ($2::uuid[])`,
    [sessionIds, keyIds],
  );
}
