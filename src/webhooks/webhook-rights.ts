import { Injectable, type OnModuleInit } from '@nestjs/common';
import { actorHas } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import type { Holder } from '../platform/http/index.js';
import { type OwnedKind, OwnerRights, type Rights } from '../platform/ownership/index.js';
import { readingScopes } from '../streaming/index.js';
import { ActiveWebhooks } from './active-webhooks.js';
import { giveUpUnreadable, type Hearing, isNarrower } from './queued-deliveries.js';
import { Webhook } from './webhook.entity.js';
import { WebhookHealth } from './webhook-health.js';

type OwnedWebhook = Holder & Hearing & Pick<Webhook, 'id' | 'managedBy' | 'version'>;

/** A webhook goes on for as long as who set it up may have one, and delivers only what they may read. */
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

  private async narrow({ id, version, ...before }: OwnedWebhook, rights: Rights): Promise<void> {
    const hearing = narrowed(before, rights);
    if (!isNarrower(hearing, before)) return;
    await this.db.transaction(async (tx) => {
      const { affected } = await tx.update(Webhook, { id, version }, hearing);
      // Written in the meantime: looked at again by the next sweep.
      if (affected === 0) return;
      await giveUpUnreadable(tx, id, hearing);
      this.db.afterCommit(tx, () => this.active.changed());
    });
  }
}

/** What is left of what a webhook hears when it goes by these rights. */
export function narrowed({ privateEvents, readerScopes }: Hearing, rights: Pick<Rights, 'scopes'>): Hearing {
  return {
    privateEvents: privateEvents && actorHas(rights, 'user:read'),
    readerScopes: readerScopes?.filter((scope) => actorHas(rights, scope)) ?? readingScopes(rights),
  };
}
