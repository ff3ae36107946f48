import { Injectable, type OnModuleInit } from '@nestjs/common';
import { actorHas } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import type { Holder } from '../platform/http/index.js';
import { type OwnedKind, OwnerRights, type Rights } from '../platform/ownership/index.js';

interface OwnedSubscription extends Holder {
  id: string;
  reader_scopes: string[];
  version: number;
}

/** Reduces saved streams to what their owner may read; the webhook of a subscription is reduced by its own domain. */
@Injectable()
export class SubscriptionRights implements OwnedKind<OwnedSubscription>, OnModuleInit {
  constructor(
    private readonly db: Database,
    private readonly rights: OwnerRights,
  ) {}

  onModuleInit(): void {
    this.rights.contribute(this);
  }

  find({ actorId, credentialId }: Partial<Holder>): Promise<OwnedSubscription[]> {
    return this.db.query<OwnedSubscription>(
      `SELECT id, reader_scopes, version, owner_id AS "actorId", owner_credential AS "credentialId"
       FROM event_subscriptions
       WHERE enabled AND delivery_method = 'stream' AND ($1::text IS NULL OR owner_id = $1)
         AND ($2::text IS NULL OR owner_credential = $2)`,
      [actorId ?? null, credentialId ?? null],
    );
  }

  async reduce({ id, reader_scopes: before, version }: OwnedSubscription, rights: Rights): Promise<void> {
    const scopes = before.filter((scope) => actorHas(rights, scope));
    const mayStay = actorHas(rights, 'event:subscribe');
    if (mayStay && scopes.length === before.length) return;
    // Written in the meantime: the next sweep looks at it again.
    await this.db.query(
      `UPDATE event_subscriptions SET reader_scopes = $3, enabled = $4, disabled_at = CASE WHEN NOT $4 THEN now() END,
         version = version + 1, updated_at = now()
       WHERE id = $1 AND version = $2`,
      [id, version, scopes, mayStay],
    );
  }
}
