import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { type FindOptionsWhere, In, IsNull, MoreThan } from 'typeorm';
import type { Actor } from '../../platform/context/index.js';
import { generateKey } from '../../platform/crypto/index.js';
import { Database, findForUpdate, insertRow, type Tx } from '../../platform/database/index.js';
import { EventBus } from '../../platform/events/index.js';
import { type Page, pageNewestFirst, type PaginationDto } from '../../platform/http/index.js';
import { parsePublicId, publicId } from '../../platform/ids/index.js';
import { invalidToken } from '../access/presented-credential.js';
import { Revocations } from '../access/revocations.js';
import { TokenCreated, TokenRevoked } from '../security.events.js';
import { Credential } from './credential.entity.js';

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
export type UsedKey = Pick<Credential, 'id' | 'kind' | 'expiresAt'>;

const DAY_MS = 86_400_000;
/** An ended key is shown, and revoking it again answered, for so long. */

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
    const { parent = null } = wanted;
    const ends = [wanted.expiresInDays && Date.now() + wanted.expiresInDays * DAY_MS, parent?.expiresAt?.getTime()];
    const end = Math.min(...ends.filter((time) => typeof time === 'number'));
    const credential = await insertRow(tx, Credential, {
      id: randomUUID(),
      kind: wanted.kind,
      keyId,
      hash,
      preview,
      name: wanted.name,
      description: wanted.description ?? null,
      ownerUserId: 'ownerUserId' in wanted ? wanted.ownerUserId : null,
      agentId: 'agentId' in wanted ? wanted.agentId : null,
      scopes: [...wanted.scopes],
      expiresAt: Number.isFinite(end) ? new Date(end) : null,
      parentId: parent?.id ?? null,
    });
    const id = credentialId(credential);
    await this.events.publish(tx, TokenCreated, id, {
      token_id: id,
      name: credential.name,
      scopes: credential.scopes,
      owner_id: ownerId(credential),
    });
    return { credential: Object.assign(credential, { parent }), key };
  }

  /**
   * Ends live credentials and all that was made with them; those that are revoked already stay as they are. Effective at once.
   * @returns those that it ended, the given ones first
   */
  async revoke(tx: Tx, ids: readonly string[]): Promise<Credential[]> {
    const revoked: Credential[] = [];
    // A statement for each generation: once a key is revoked nothing more is made with it (`lockUsed`).
    for (let generation = await end(tx, { id: In([...ids]) }); generation.length > 0;) {
      revoked.push(...generation);
      const parents = generation.map(({ id }) => id);
      generation = await end(tx, { parentId: In(parents) });
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
  list(
    kind: 'api' | 'tok',
    ownerUserId: string | null,
    page: Page,
  ): Promise<{ rows: Credential[]; pagination: PaginationDto }> {
    const list = this.db.repository(Credential).createQueryBuilder('credential');
    list.leftJoinAndSelect('credential.parent', 'parent').where({ kind });
    if (ownerUserId !== null) list.andWhere({ ownerUserId });
    return pageNewestFirst(list, page);
  }

  /** Keys and tokens of a user that are valid now. */
  countLive(tx: Tx, ownerUserId: string): Promise<number> {
    const live = { ownerUserId, revokedAt: IsNull() };
    return tx.countBy(Credential, [
      { ...live, expiresAt: IsNull() },
      { ...live, expiresAt: MoreThan(new Date()) },
    ]);
  }

  /** `ownerUserId` null: whoever it belongs to. */
  find(tx: Tx, kind: 'api' | 'tok', id: string, ownerUserId: string | null): Promise<Credential | null> {
    const where = { id, kind, ...(ownerUserId === null ? {} : { ownerUserId }) };
    return tx.findOne(Credential, { where, relations: { parent: true } });
  }

  /** What was made with this key does not end with it any more. */
  async releaseChildren(tx: Tx, id: string): Promise<void> {
    // Waits for children that are being made.
    await findForUpdate(tx, Credential, { id });
    await tx.update(Credential, { parentId: id }, { parentId: null });
  }

  /**
   * The key that the actor uses; null for a login. It cannot be revoked until `tx` ends.
   * @throws AppError `unauthenticated` when it was revoked meanwhile
   */
  async lockUsed(tx: Tx, { credentialId: used }: Actor): Promise<UsedKey | null> {
    const id = parsePublicId('key', used ?? '') ?? parsePublicId('token', used ?? '');
    if (id === null) return null;
    const live = { id, revokedAt: IsNull() };
    const key = await tx.findOne(Credential, { where: live, lock: { mode: 'pessimistic_read' } });
    if (!key) throw invalidToken();
    return key;
  }
}

/** Ends the live ones. Keys that are being made with them wait until then. */
async function end(tx: Tx, which: FindOptionsWhere<Credential>): Promise<Credential[]> {
  const where = { ...which, revokedAt: IsNull() };
  const live = await tx.find(Credential, { where, order: { id: 'ASC' }, lock: { mode: 'pessimistic_write' } });
  const revokedAt = new Date();
  if (live.length > 0) await tx.update(Credential, { id: In(live.map(({ id }) => id)) }, { revokedAt });
  return live.map((credential) => Object.assign(credential, { revokedAt }));
}

/** Public id of the key that a key was made with. */
export function parentId({ parent }: Credential): string | null {
  return parent ? credentialId(parent) : null;
}

export function credentialId({ kind, id }: Pick<Credential, 'kind' | 'id'>): string {
  return publicId(kind === 'tok' ? 'token' : 'key', id);
}

function ownerId({ agentId, ownerUserId }: Credential): string {
  return agentId ? publicId('agent', agentId) : publicId('user', ownerUserId!);
}
