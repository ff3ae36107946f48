import { Injectable, type OnModuleInit } from '@nestjs/common';
import { actorHas } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import type { Holder } from '../platform/http/index.js';
import { type OwnedKind, OwnerRights, type Rights } from '../platform/ownership/index.js';
import { ActiveWebhooks, mayHear, type Wants } from './active-webhooks.js';
import { BATCH_TYPE } from './event-body.js';
import { WebhookHealth } from './webhook-health.js';

type Hearing = Pick<Wants, 'private_events' | 'reader_scopes'>;

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
    if (
      hearing.private_events === before.private_events &&
      hearing.reader_scopes?.length === before.reader_scopes?.length
    ) {
      return;
    }
    await this.db.transaction(async (tx) => {
      const [, count] = await tx.query<[unknown[], number]>(
        `UPDATE webhooks SET private_events = $3, reader_scopes = $4, version = version + 1, updated_at = now()
         WHERE id = $1 AND version = $2`,
        [id, version, hearing.private_events, hearing.reader_scopes],
      );
      // Written in the meantime: looked at again by the next sweep.
      if (count === 0) return;
      const waiting = await tx.query<{ type: string }[]>(
        `SELECT event_type AS type FROM webhook_deliveries WHERE webhook_id = $1 AND status = 'pending' GROUP BY 1
         UNION SELECT e.type FROM webhook_batch_items i JOIN events e ON e.id = i.event_id
         WHERE i.webhook_id = $1 AND i.delivery_id IS NULL`,
        [id],
      );
      const unheard = waiting.map(({ type }) => type).filter((type) => !mayHear(hearing, type));
      await tx.query(
        `UPDATE webhook_deliveries SET status = 'failed', next_attempt_at = NULL, finished_at = now(), sending_since = NULL
         WHERE webhook_id = $1 AND status = 'pending' AND event_type = ANY ($2)`,
        [id, unheard],
      );
      await tx.query(
        `DELETE FROM webhook_batch_items i USING events e
         WHERE i.webhook_id = $1 AND i.delivery_id IS NULL AND e.id = i.event_id AND e.type = ANY ($2)`,
        [id, unheard],
      );
      // Made up of what it might hear before: what it still may is made up anew by `recover`.
      await tx.query(
        `DELETE FROM webhook_deliveries WHERE webhook_id = $1 AND status <> 'delivered' AND event_type = '${BATCH_TYPE}'`,
        [id],
      );
      this.db.afterCommit(tx, () => this.active.changed());
    });
  }
}

/** What is left of what a webhook hears when it goes by these rights. */
export function narrowed({ private_events, reader_scopes }: Hearing, rights: Pick<Rights, 'scopes'>): Hearing {
  return {
    private_events: private_events && actorHas(rights, 'user:read'),
    reader_scopes: reader_scopes && reader_scopes.filter((scope) => actorHas(rights, scope)),
  };
}
