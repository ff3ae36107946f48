import { Injectable, type OnModuleInit } from '@nestjs/common';
import { actorHas } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import type { Holder } from '../platform/http/index.js';
import { type OwnedKind, OwnerRights, type Rights } from '../platform/ownership/index.js';
import { ActiveWebhooks } from './active-webhooks.js';
import { giveUpUnreadable } from './queued-deliveries.js';
import { Webhook } from './webhook.entity.js';
import { WebhookHealth } from './webhook-health.js';

type OwnedWebhook = Holder & Pick<Webhook, 'id' | 'managedBy' | 'readerScopes' | 'version'>;

/** Disables a webhook when its owner may no longer have one, and limits it to events that the owner may read. */
@Injectable()
export class WebhookRights implements OwnedKind<OwnedWebhook>, OnModuleInit {
  constructor(
    private readonly db: Database,
    private readonly rights: OwnerRights,
    private readonly health: WebhookHealth,
    private readonly active: ActiveWebhooks,
  ) {}

  onModuleInit(): void {
    this.rights.contribute(this);
  }

  async find({ actorId, credentialId }: Partial<Holder>): Promise<OwnedWebhook[]> {
    const webhooks = await this.db.repository(Webhook).findBy({
      active: true,
      ...(actorId ? { holderId: actorId } : {}),
      ...(credentialId ? { holderCredential: credentialId } : {}),
    });
    return webhooks.map((webhook) => ({
      ...webhook,
      actorId: webhook.holderId,
      credentialId: webhook.holderCredential,
    }));
  }

  async reduce(webhook: OwnedWebhook, rights: Rights): Promise<void> {
    const scope = webhook.managedBy ? 'event:subscribe' : 'webhook:write';
    if (actorHas(rights, scope)) await this.narrow(webhook, rights);
    else await this.health.disable(webhook.id, 'rights');
  }

  private async narrow({ id, version, readerScopes: before }: OwnedWebhook, rights: Rights): Promise<void> {
    const readerScopes = stillHeld(before, rights);
    if (readerScopes.length === before.length) return;
    await this.db.transaction(async (tx) => {
      const { affected } = await tx.update(Webhook, { id, version }, { readerScopes });
      // The webhook was changed in the meantime. The next sweep checks it again.
      if (affected === 0) return;
      await giveUpUnreadable(tx, id, (type) => this.active.mayRead({ readerScopes }, type));
      this.db.afterCommit(tx, () => this.active.changed());
    });
  }
}

/** The scopes that a webhook reads by, without those that these rights do not give. */
export function stillHeld(readerScopes: readonly string[], rights: Pick<Rights, 'scopes'>): string[] {
  return readerScopes.filter((scope) => actorHas(rights, scope));
}
