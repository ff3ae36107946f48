import { Injectable, type OnModuleInit } from '@nestjs/common';
import { IsNull, MoreThan, Not } from 'typeorm';
import { actorHas } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import type { Holder } from '../platform/http/index.js';
import { type OwnedKind, OwnerRights, type Rights } from '../platform/ownership/index.js';
import { JoinToken } from './join-token.entity.js';

type OpenToken = Holder & Pick<JoinToken, 'id' | 'labels' | 'usedAt'>;

/** Nobody joins with a token, and no join is repeated, once its maker may no longer make one like it. */
@Injectable()
export class JoinTokenRights implements OwnedKind<OpenToken>, OnModuleInit {
  constructor(
    private readonly db: Database,
    private readonly rights: OwnerRights,
  ) {}

  onModuleInit(): void {
    this.rights.contribute(this);
  }

  async find({ actorId, credentialId }: Partial<Holder>): Promise<OpenToken[]> {
    const open = {
      revokedAt: IsNull(),
      expiresAt: MoreThan(new Date()),
      ...(actorId ? { createdBy: actorId } : {}),
      ...(credentialId ? { ownerCredential: credentialId } : {}),
    };
    const tokens = await this.db.repository(JoinToken).findBy([
      { ...open, usedAt: IsNull() },
      { ...open, nonceHash: Not(IsNull()) },
    ]);
    return tokens.map((token) => ({ ...token, actorId: token.createdBy, credentialId: token.ownerCredential }));
  }

  async reduce({ id, labels, usedAt }: OpenToken, rights: Rights): Promise<void> {
    const within = Object.entries(rights.agentLabels ?? {}).every(([name, value]) => labels[name] === value);
    if (within && actorHas(rights, 'agent:admin')) return;
    // One that was used in the meantime keeps its agent; the next sweep voids what is left of it.
    const whenAsFound = { id, usedAt: usedAt ?? IsNull() };
    const ended = usedAt === null ? { revokedAt: new Date(), nonceHash: null } : { nonceHash: null };
    await this.db.repository(JoinToken).update(whenAsFound, ended);
  }
}
