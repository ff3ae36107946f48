import { Injectable } from '@nestjs/common';
import { WebhookSettings } from './webhooks.settings.js';
import { Database } from '../platform/database/index.js';
import { EventBus } from '../platform/events/index.js';
import { publicId } from '../platform/http/index.js';
import { ActiveWebhooks } from './active-webhooks.js';
import { type AttemptOutcome, EVENT_EXPIRED } from './deliveries.js';
import { type DisabledReason, WebhookDisabled } from './webhooks.events.js';

interface Failing {
  id: string;
  too_long: boolean;
}

/** Keeps count of how webhooks fare and switches off those that are gone or have failed for too long (row WHK-07). */
@Injectable()
export class WebhookHealth {
  constructor(
    private readonly db: Database,
    private readonly events: EventBus,
    private readonly active: ActiveWebhooks,
    private readonly settings: WebhookSettings,
  ) {}

  /** @param unnoted webhooks of which a success is to be written down */
  async report(outcomes: readonly AttemptOutcome[], unnoted: readonly string[]): Promise<void> {
    const well = new Set(outcomes.filter((o) => o.result === 'delivered').map((o) => o.webhookId));
    const failures = new Map<string, number>();
    for (const { result, webhookId, errorCode } of outcomes) {
      if (result === 'delivered' || result === 'unsent' || errorCode === EVENT_EXPIRED || well.has(webhookId)) continue;
      failures.set(webhookId, (failures.get(webhookId) ?? 0) + 1);
    }
    if (unnoted.length > 0) await this.noteSuccess([...unnoted].sort());
    const gone = new Set(outcomes.filter((o) => o.errorCode === 'GONE').map((o) => o.webhookId));
    const failing = failures.size > 0 ? await this.noteFailures(failures) : [];
    for (const id of gone) await this.disable(id, 'gone');
    for (const { id, too_long } of failing) if (too_long && !gone.has(id)) await this.disable(id, 'failing');
  }

  /** Written when it says something new, and once a minute. */
  private async noteSuccess(ids: string[]): Promise<void> {
    await this.db.query(
      `UPDATE webhooks SET failing_since = NULL, consecutive_failures = 0, last_success_at = now()
       WHERE id IN (
         SELECT id FROM webhooks WHERE id = ANY ($1::uuid[]) AND (failing_since IS NOT NULL OR last_success_at IS NULL
           OR last_success_at < now() - interval '1 minute') ORDER BY id FOR UPDATE)`,
      [ids],
    );
  }

  private async noteFailures(failures: ReadonlyMap<string, number>): Promise<Failing[]> {
    const { disableAfterSeconds, disableAfterFailures } = this.settings;
    const [rows] = await this.db.query<Failing[]>(
      `WITH f AS (
         SELECT w.id, n FROM webhooks w JOIN unnest($1::uuid[], $2::int[]) AS f (id, n) USING (id)
         ORDER BY w.id FOR UPDATE OF w)
       UPDATE webhooks w SET failing_since = coalesce(failing_since, now()), consecutive_failures = consecutive_failures + f.n
       FROM f WHERE w.id = f.id
       RETURNING w.id, w.active AND (w.failing_since <= now() - make_interval(secs => $3)
         OR ($4 > 0 AND w.consecutive_failures >= $4)) AS too_long`,
      [[...failures.keys()], [...failures.values()], disableAfterSeconds, disableAfterFailures],
    );
    return rows;
  }

  /** What is still to be delivered is given up; `recover` starts it over. */
  async disable(id: string, reason: DisabledReason): Promise<void> {
    await this.db.transaction(async (tx) => {
      const [[webhook]] = await tx.query<
        [{ url: string; created_by: string; failing_since: Date | null; consecutive_failures: number }[], number]
      >(
        `UPDATE webhooks SET active = false, disabled_at = now(), disabled_reason = $2, updated_at = now(),
           version = version + 1
         WHERE id = $1 AND active RETURNING url, created_by, failing_since, consecutive_failures`,
        [id, reason],
      );
      if (!webhook) return;
      await tx.query(
        `UPDATE webhook_deliveries SET status = 'failed', next_attempt_at = NULL, finished_at = now(), sending_since = NULL
         WHERE webhook_id = $1 AND status = 'pending'`,
        [id],
      );
      await this.events.publish(tx, WebhookDisabled, publicId('webhook', id), {
        webhook_id: publicId('webhook', id),
        url: webhook.url,
        reason,
        created_by: webhook.created_by,
        failing_since: webhook.failing_since?.toISOString() ?? null,
        consecutive_failures: webhook.consecutive_failures,
      });
      this.db.afterCommit(tx, () => this.active.changed());
    });
  }
}
