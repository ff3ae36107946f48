import { Injectable } from '@nestjs/common';
import { Database, findForUpdate } from '../platform/database/index.js';
import { EventBus } from '../platform/events/index.js';
import { publicId } from '../platform/ids/index.js';
import { ActiveWebhooks } from './active-webhooks.js';
import type { AttemptOutcome } from './deliveries.queries.js';
import { EVENT_EXPIRED } from './delivery-attempt.js';
import { endQueued } from './queued-deliveries.js';
import { Webhook } from './webhook.entity.js';
import { type DisabledReason, WebhookDisabled } from './webhooks.events.js';
import { noteFailures, noteSuccesses } from './webhooks.queries.js';
import { WebhookSettings } from './webhooks.settings.js';

/** Records successes and failures of webhooks, and disables those that are gone or have failed for too long. */
@Injectable()
export class WebhookHealth {
  constructor(
    private readonly db: Database,
    private readonly events: EventBus,
    private readonly active: ActiveWebhooks,
    private readonly settings: WebhookSettings,
  ) {}

  /** @param unnoted webhooks whose success has to be recorded */
  async report(outcomes: readonly AttemptOutcome[], unnoted: readonly string[]): Promise<void> {
    const well = new Set(outcomes.filter((o) => o.result === 'delivered').map((o) => o.webhookId));
    const failures = new Map<string, number>();
    for (const { result, webhookId, errorCode } of outcomes) {
      if (result === 'delivered' || result === 'unsent' || errorCode === EVENT_EXPIRED || well.has(webhookId)) continue;
      failures.set(webhookId, (failures.get(webhookId) ?? 0) + 1);
    }
    if (unnoted.length > 0) await noteSuccesses(this.db.manager, unnoted);
    const gone = new Set(outcomes.filter((o) => o.errorCode === 'GONE').map((o) => o.webhookId));
    const { disableAfterSeconds: seconds, disableAfterFailures: most } = this.settings;
    const tooLong = failures.size > 0 ? await noteFailures(this.db.manager, failures, { seconds, failures: most }) : [];
    for (const id of gone) await this.disable(id, 'gone');
    for (const id of tooLong) if (!gone.has(id)) await this.disable(id, 'failing');
  }

  /** Disables a webhook and ends its pending deliveries as failed. `recover` restarts them. */
  async disable(id: string, reason: DisabledReason): Promise<void> {
    await this.db.transaction(async (tx) => {
      const webhook = await findForUpdate(tx, Webhook, { id, active: true });
      if (!webhook) return;
      Object.assign(webhook, { active: false, disabledAt: new Date(), disabledReason: reason });
      await tx.save(webhook);
      await endQueued(tx, id, 'failed');
      await this.events.publish(tx, WebhookDisabled, publicId('webhook', id), {
        webhook_id: publicId('webhook', id),
        url: webhook.url,
        reason,
        created_by: webhook.createdBy,
        failing_since: webhook.failingSince?.toISOString() ?? null,
        consecutive_failures: webhook.consecutiveFailures,
      });
      this.db.afterCommit(tx, () => this.active.changed());
    });
  }
}
