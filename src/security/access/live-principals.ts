import { Injectable, type OnModuleInit } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import type { Actor } from '../../platform/context/index.js';
import { hashKey, hashName, parseKey, safeEqual } from '../../platform/crypto/index.js';
import { Database } from '../../platform/database/index.js';
import { type Holder } from '../../platform/http/index.js';
import { parsePublicId, publicId } from '../../platform/ids/index.js';
import { findHeld, findLiveKey, findLiveSession } from './access.queries.js';
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

/** A row may be this old, in milliseconds, when a revocation made elsewhere could not be announced. */
const MAX_AGE_MS = 1000;
const MAX_ENTRIES = 20_000;

/**
 * Looks up credentials with their owner and roles. The row decides, never a claim; it is remembered for at most a
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
    const keyId = credentialId && credentialId.slice(credentialId.indexOf('_') + 1);
    const owner = await findHeld(this.db.manager, parsePublicId('user', actorId), keyId);
    if (!owner) return { scopes: new Set() };
    const held = grantsOf([...builtInScopes(owner.roles), ...owner.roleScopes]);
    return owner.scopes ? credentialRights(held, grantsOf(owner.scopes)) : rightsOf(held);
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
    const key = await findLiveKey(this.db.manager, parsed.keyId);
    if (!key || !safeEqual(key.hash, hashKey(text))) return null;
    const roles = key.kind === 'agent' ? ['agent'] : (key.roles ?? []);
    const held = grantsOf([...builtInScopes(roles), ...key.roleScopes]);
    const actor: Actor = {
      ...(key.agentId
        ? { id: publicId('agent', key.agentId), type: 'agent', agentId: key.agentId, name: key.name }
        : {
            id: publicId('user', key.userId!),
            type: key.kind === 'tok' ? 'token' : 'key',
            userId: key.userId!,
            name: key.username!,
            credentialName: key.name,
          }),
      credentialId: publicId(key.kind === 'tok' ? 'token' : 'key', key.id),
      roles,
      ...credentialRights(held, grantsOf(key.scopes)),
      ...(key.expiresAt ? { expiresAt: key.expiresAt.getTime() } : {}),
    };
    return { actor, expiresAt: key.expiresAt?.getTime() ?? null, notBefore: 0 };
  }

  private async loadSession(sessionId: string): Promise<Principal | null> {
    const session = await findLiveSession(this.db.manager, sessionId);
    if (!session) return null;
    const actor: Actor = {
      id: publicId('user', session.userId),
      type: 'user',
      name: session.username,
      credentialId: publicId('sess', session.id),
      roles: session.roles,
      userId: session.userId,
      ...rightsOf(grantsOf([...builtInScopes(session.roles), ...session.roleScopes])),
    };
    return { actor, expiresAt: session.expiresAt.getTime(), notBefore: session.notBefore ?? 0 };
  }
}
