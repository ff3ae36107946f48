import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { IsNull, MoreThan } from 'typeorm';
import type { Actor } from '../../platform/context/index.js';
import { generateKey, type KeyKind } from '../../platform/crypto/index.js';
import { Database, type Tx } from '../../platform/database/index.js';
import { EventBus } from '../../platform/events/index.js';
import { type Page, parsePublicId, publicId, timeAndIdAfter } from '../../platform/http/index.js';
import { invalidToken } from '../access/presented-credential.js';
import { Revocations } from '../access/revocations.js';
import { TokenCreated, TokenRevoked } from '../security.events.js';
import { Credential as CredentialEntity } from './credential.entity.js';

export interface Credential {
  id: string;
  kind: KeyKind;
  preview: string;
  name: string;
  description: string | null;
  owner_user_id: string | null;
  agent_id: string | null;
  scopes: string[];
  /** The key it was made with, with which it ends. */
  parent_id: string | null;
  parent_kind: KeyKind | null;
  created_at: Date;
  expires_at: Date | null;
  last_used_at: Date | null;
  revoked_at: Date | null;
}

export type NewCredential = {
  name: string;
  description?: string;
  scopes: readonly string[];
  /** Null: until it is revoked. */
  expiresInDays: number | null;
  /** The key it is made with: it ends with that, and then at the latest. */
  parent?: UsedKey | null;
} & ({ kind: 'api' | 'tok'; ownerUserId: string } | { kind: 'agent'; agentId: string });

/** A key that a request was made with. */
export type UsedKey = Pick<Credential, 'id' | 'expires_at'>;

const COLUMNS = `id, kind, preview, name, description, owner_user_id, agent_id, scopes, parent_id,
  (SELECT p.kind FROM credentials p WHERE p.id = credentials.parent_id) AS parent_kind,
  created_at, expires_at, last_used_at, revoked_at`;

/** Keys of every kind: only their hash is stored, and the row is what gives them rights. */
@Injectable()
export class Credentials {
  constructor(
    private readonly db: Database,
    private readonly events: EventBus,
    private readonly revocations: Revocations,
  ) {}

  /** `key` is shown once and cannot be had again. The caller has checked that the scopes may be given. */
  async create(tx: Tx, wanted: NewCredential): Promise<{ credential: Credential; key: string }> {
    const { key, keyId, hash, preview } = generateKey(wanted.kind);
    const [credential] = await tx.query<Credential[]>(
      `INSERT INTO credentials (id, kind, key_id, hash, preview, name, description, owner_user_id, agent_id, scopes, expires_at, parent_id)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, least(now() + $11 * interval '1 day', $12::timestamptz), $13) RETURNING ${COLUMNS}`,
      [
        randomUUID(),
        wanted.kind,
        keyId,
        hash,
        preview,
        wanted.name,
        wanted.description ?? null,
        'ownerUserId' in wanted ? wanted.ownerUserId : null,
        'agentId' in wanted ? wanted.agentId : null,
        wanted.scopes,
        wanted.expiresInDays,
        wanted.parent?.expires_at ?? null,
        wanted.parent?.id ?? null,
      ],
    );
    const id = credentialId(credential);
    await this.events.publish(tx, TokenCreated, id, {
      token_id: id,
      name: credential.name,
      scopes: credential.scopes,
      owner_id: ownerId(credential),
    });
    return { credential, key };
  }

  /**
   * Ends live credentials and all that was made with them; those that are revoked already stay as they are. Effective at once.
   * @returns those that it ended, the given ones first
   */
  async revoke(tx: Tx, ids: readonly string[]): Promise<Credential[]> {
    const revoked: Credential[] = [];
    // A statement for each generation: once a key is revoked nothing more is made with it (`lockUsed`).
    for (let generation = await end(tx, 'id', ids); generation.length > 0;) {
      revoked.push(...generation);
      const parents = generation.map(({ id }) => id);
      generation = await end(tx, 'parent_id', parents);
    }
    if (revoked.length === 0) return revoked;
    await this.events.publishMany(
      tx,
      revoked.map((credential) => {
        const id = credentialId(credential);
        return { event: TokenRevoked, subject: id, data: { token_id: id, owner_id: ownerId(credential) } };
      }),
    );
    this.revocations.announce(
      tx,
      revoked.map((credential) => ({ credentialId: credentialId(credential) })),
    );
    return revoked;
  }

  /** Keys of people by kind, newest first, revoked ones included; null for any owner. */
  async list(kind: 'api' | 'tok', ownerUserId: string | null, page: Page): Promise<Credential[]> {
    return this.db.query<Credential>(
      `SELECT ${COLUMNS} FROM credentials WHERE kind = $1 AND ($2::uuid IS NULL OR owner_user_id = $2)
         AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::uuid))
       ORDER BY created_at DESC, id DESC LIMIT $3 OFFSET $4`,
      [kind, ownerUserId, page.limit + 1, page.offset, ...timeAndIdAfter(page)],
    );
  }

  async count(kind: 'api' | 'tok', ownerUserId: string | null): Promise<number> {
    const [{ total }] = await this.db.query<{ total: number }>(
      `SELECT count(*)::int AS total FROM credentials WHERE kind = $1 AND ($2::uuid IS NULL OR owner_user_id = $2)`,
      [kind, ownerUserId],
    );
    return total;
  }

  /** Keys and tokens of a user that are valid now. */
  countLive(tx: Tx, ownerUserId: string): Promise<number> {
    const live = { ownerUserId, revokedAt: IsNull() };
    return tx.countBy(CredentialEntity, [
      { ...live, expiresAt: IsNull() },
      { ...live, expiresAt: MoreThan(new Date()) },
    ]);
  }

  /** `ownerUserId` null: whoever it belongs to. */
  async find(tx: Tx, kind: 'api' | 'tok', id: string, ownerUserId: string | null): Promise<Credential | null> {
    const [row] = await tx.query<(Credential | undefined)[]>(
      `SELECT ${COLUMNS} FROM credentials WHERE id = $1 AND kind = $2 AND ($3::uuid IS NULL OR owner_user_id = $3)`,
      [id, kind, ownerUserId],
    );
    return row ?? null;
  }

  /** What was made with this key does not end with it any more. */
  async releaseChildren(tx: Tx, id: string): Promise<void> {
    // Waits for children that are being made.
    await tx.query('SELECT 1 FROM credentials WHERE id = $1 FOR UPDATE', [id]);
    await tx.query('UPDATE credentials SET parent_id = NULL WHERE parent_id = $1', [id]);
  }

  /**
   * The key that the actor uses; null for a login. It cannot be revoked until `tx` ends.
   * @throws AppError `unauthenticated` when it was revoked meanwhile
   */
  async lockUsed(tx: Tx, { credentialId: used }: Actor): Promise<UsedKey | null> {
    const id = parsePublicId('key', used ?? '') ?? parsePublicId('token', used ?? '');
    if (id === null) return null;
    const [row] = await tx.query<(UsedKey | undefined)[]>(
      'SELECT id, expires_at FROM credentials WHERE id = $1 AND revoked_at IS NULL FOR SHARE',
      [id],
    );
    if (!row) throw invalidToken();
    return row;
  }

  /** Deletes keys that ended a month ago; until then lists show them, and revoking them again is answered. */
  async purge(): Promise<void> {
    await this.db.query(`DELETE FROM credentials WHERE least(expires_at, revoked_at) < now() - interval '30 days'`);
  }
}

async function end(tx: Tx, column: 'id' | 'parent_id', ids: readonly string[]): Promise<Credential[]> {
  // The driver gives an UPDATE as [rows, count].
  const [ended] = await tx.query<[Credential[], number]>(
    `UPDATE credentials SET revoked_at = now() WHERE ${column} = ANY ($1::uuid[]) AND revoked_at IS NULL RETURNING ${COLUMNS}`,
    [ids],
  );
  return ended;
}

/** Public id of the key that a key was made with. */
export function parentId({ parent_id, parent_kind }: Credential): string | null {
  return parent_id && parent_kind && credentialId({ id: parent_id, kind: parent_kind });
}

export function credentialId({ kind, id }: Pick<Credential, 'kind' | 'id'>): string {
  return publicId(kind === 'tok' ? 'token' : 'key', id);
}

function ownerId({ agent_id, owner_user_id }: Credential): string {
  return agent_id ? publicId('agent', agent_id) : publicId('user', owner_user_id as string);
}
