import { Injectable, type OnModuleInit } from '@nestjs/common';
import { actorHas } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import type { Holder } from '../platform/http/index.js';
import { type OwnedKind, OwnerRights, type Rights } from '../platform/ownership/index.js';
import { EventSubscription } from './event-subscription.entity.js';

type OwnedSubscription = Holder & Pick<EventSubscription, 'id' | 'readerScopes' | 'version'>;

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

  async find({ actorId, credentialId }: Partial<Holder>): Promise<OwnedSubscription[]> {
    const found = await this.db.repository(EventSubscription).findBy({
      enabled: true,
      deliveryMethod: 'stream',
      ...(actorId ? { ownerId: actorId } : {}),
      ...(credentialId ? { ownerCredential: credentialId } : {}),
    });
    return found.map((one) => ({ ...one, actorId: one.ownerId, credentialId: one.ownerCredential }));
  }

  async reduce({ id, readerScopes: before, version }: OwnedSubscription, rights: Rights): Promise<void> {
    const scopes = before.filter((scope) => actorHas(rights, scope));
    const mayStay = actorHas(rights, 'event:subscribe');
    if (mayStay && scopes.length === before.length) return;
    // Written in the meantime: the next sweep looks at it again.
    const left = { readerScopes: scopes, enabled: mayStay, disabledAt: mayStay ? null : new Date() };
    await this.db.repository(EventSubscription).update({ id, version }, left);
  }
}
