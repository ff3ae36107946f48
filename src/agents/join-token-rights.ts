import { Injectable, type OnModuleInit } from '@nestjs/common';
import { actorHas } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import type { Holder } from '../platform/http/index.js';
import { type OwnedKind, OwnerRights, type Rights } from '../platform/ownership/index.js';

interface OpenToken extends Holder {
  id: string;
  labels: Record<string, string>;
}

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

  find({ actorId, credentialId }: Partial<Holder>): Promise<OpenToken[]> {
    return this.db.query<OpenToken>(
      `SELECT id, labels, created_by AS "actorId", owner_credential AS "credentialId" FROM agent_join_tokens
       WHERE (used_at IS NULL OR nonce_hash IS NOT NULL) AND revoked_at IS NULL AND expires_at > now()
         AND ($1::text IS NULL OR created_by = $1) AND ($2::text IS NULL OR owner_credential = $2)`,
      [actorId ?? null, credentialId ?? null],
    );
  }

  async reduce({ id, labels }: OpenToken, rights: Rights): Promise<void> {
    const within = Object.entries(rights.agentLabels ?? {}).every(([name, value]) => labels[name] === value);
    if (within && actorHas(rights, 'agent:admin')) return;
    await this.db.query(
      `UPDATE agent_join_tokens SET revoked_at = CASE WHEN used_at IS NULL THEN now() END, nonce_hash = NULL WHERE id = $1`,
      [id],
    );
  }
}
