import { Injectable, type OnModuleDestroy, type OnModuleInit } from '@nestjs/common';
import { type Actor, actorHas, runDetached } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { Gatekeeper, type Holder } from '../platform/http/index.js';
import { HandleJob } from '../platform/jobs/index.js';
import { Logger } from '../platform/observability/index.js';
import { ActiveWebhooks, mayHear, type Wants } from './active-webhooks.js';
import { BATCH_TYPE } from './event-body.js';
import { WebhookHealth } from './webhook-health.js';
import { CheckWebhookRights } from './webhooks.jobs.js';

type Rights = Pick<Actor, 'scopes'>;
type Hearing = Pick<Wants, 'private_events' | 'reader_scopes'>;

interface Held extends Hearing {
  id: string;
  managed_by: string | null;
  holder_id: string;
  holder_credential: string | null;
  version: number;
}

/** Whose rights a webhook of this actor goes by. */
export function holderOf(actor: Actor): Holder {
  return { actorId: actor.id, credentialId: actor.type === 'user' ? null : actor.credentialId };
}

/**
 * A webhook goes on for as long as who set it up may have one, and tells only what he may read (rules 8 and 9). It never gets more than it
 * had: rights that come back count once it is written again.
 */
@Injectable()
export class WebhookRights implements OnModuleInit, OnModuleDestroy {
  private stopListening: (() => void) | undefined;

  constructor(
    private readonly db: Database,
    private readonly gatekeeper: Gatekeeper,
    private readonly health: WebhookHealth,
    private readonly active: ActiveWebhooks,
    private readonly logger: Logger,
  ) {}

  onModuleInit(): void {
    this.stopListening = this.gatekeeper.onRevoked((revoked) => {
      runDetached(() => this.check(revoked)).catch((error: unknown) => {
        this.logger.warn(
          { err: String(error) },
          'The rights of webhooks could not be checked; the next sweep tries again',
        );
      });
    });
  }

  onModuleDestroy(): void {
    this.stopListening?.();
  }

  @HandleJob(CheckWebhookRights)
  sweep(): Promise<void> {
    return this.check({});
  }

  private async check(of: Partial<Holder>): Promise<void> {
    const held = await this.db.query<Held>(
      `SELECT id, managed_by, private_events, reader_scopes, holder_id, holder_credential, version FROM webhooks
       WHERE active AND ($1::text IS NULL OR holder_id = $1) AND ($2::text IS NULL OR holder_credential = $2)`,
      [of.actorId ?? null, of.credentialId ?? null],
    );
    const known = new Map<string, Rights>();
    for (const webhook of held) {
      const { id, managed_by, holder_id: actorId, holder_credential: credentialId } = webhook;
      const holder = `${actorId} ${credentialId}`;
      const rights = known.get(holder) ?? (await this.gatekeeper.rightsNow({ actorId, credentialId }));
      known.set(holder, rights);
      if (actorHas(rights, managed_by ? 'event:subscribe' : 'webhook:write')) await this.narrow(webhook, rights);
      else await this.health.disable(id, 'rights');
    }
  }

  private async narrow({ id, version, ...before }: Held, rights: Rights): Promise<void> {
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
export function narrowed({ private_events, reader_scopes }: Hearing, rights: Rights): Hearing {
  return {
    private_events: private_events && actorHas(rights, 'user:read'),
    reader_scopes: reader_scopes && reader_scopes.filter((scope) => actorHas(rights, scope)),
  };
}
