import { Injectable, type OnModuleInit } from '@nestjs/common';
import { actorHas } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import type { Holder } from '../platform/http/index.js';
import { type OwnedKind, OwnerRights, type Rights } from '../platform/ownership/index.js';
import { readingScopes } from '../streaming/index.js';
import { ActiveWebhooks } from './active-webhooks.js';
import { giveUpUnreadable, type Hearing, isNarrower } from './queued-deliveries.js';
import { WebhookHealth } from './webhook-health.js';

interface OwnedWebhook extends Hearing, Holder {
  id: string;
  managed_by: string | null;
  version: number;
}

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

  find({ actorId, credentialId }: Partial<Holder>): Promise<OwnedWebhook[]> {
    return this.db.query<OwnedWebhook>(
      `SELECT id, managed_by, private_events, reader_scopes, holder_id AS "actorId", holder_credential AS "credentialId", version
       FROM webhooks
       WHERE active AND ($1::text IS NULL OR holder_id = $1) AND ($2::text IS NULL OR holder_credential = $2)`,
      [actorId ?? null, credentialId ?? null],
    );
  }

  async reduce(webhook: OwnedWebhook, rights: Rights): Promise<void> {
    const scope = webhook.managed_by ? 'event:subscribe' : 'webhook:write';
    if (actorHas(rights, scope)) await this.narrow(webhook, rights);
    else await this.health.disable(webhook.id, 'rights');
  }

  private async narrow({ id, version, ...before }: OwnedWebhook, rights: Rights): Promise<void> {
    const hearing = narrowed(before, rights);
    if (!isNarrower(hearing, before)) return;
    await this.db.transaction(async (tx) => {
      const [, count] = await tx.query<[unknown[], number]>(
        `UPDATE webhooks SET private_events = $3, reader_scopes = $4, version = version + 1, updated_at = now()
         WHERE id = $1 AND version = $2`,
        [id, version, hearing.private_events, hearing.reader_scopes],
      );
      // Written in the meantime: looked at again by the next sweep.
      if (count === 0) return;
      await giveUpUnreadable(tx, id, hearing);
      this.db.afterCommit(tx, () => this.active.changed());
    });
  }
}

/** What is left of what a webhook hears when it goes by these rights. */
export function narrowed({ private_events, reader_scopes }: Hearing, rights: Pick<Rights, 'scopes'>): Hearing {
  return {
    private_events: private_events && actorHas(rights, 'user:read'),
    reader_scopes: reader_scopes?.filter((scope) => actorHas(rights, scope)) ?? readingScopes(rights),
  };
}
