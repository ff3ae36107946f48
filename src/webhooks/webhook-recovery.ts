import { Injectable } from '@nestjs/common';
import { MoreThanOrEqual } from 'typeorm';
import { defineBackgroundTask, HandleTask, type TaskContext } from '../platform/background/index.js';
import { Database, type Tx } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { EventHistory, type HistoryPlace, type StoredEvent } from '../platform/events/index.js';
import { ActiveWebhooks, fits } from './active-webhooks.js';
import { recoverDeliveries } from './deliveries.queries.js';
import { BATCH_TYPE, bodyOf } from './event-body.js';
import { STARTED_OVER } from './queued-deliveries.js';
import { WebhookDelivery } from './webhook-delivery.entity.js';
import { Webhook } from './webhook.entity.js';
import { addBatchItems } from './webhooks.queries.js';

const PAGE = 500;

interface Recovery {
  /** UUID. */
  webhookId: string;
  /** ISO 8601. Events after `to` are delivered in the ordinary way. */
  since: string;
  to: string;
}

interface RecoveryState {
  after: HistoryPlace | null;
  recovered: number;
}

/** Delivers to a webhook the events since a time that failed or that it missed. */
export const RecoverWebhook = defineBackgroundTask<Recovery, RecoveryState>({
  kind: 'webhook.recover',
  queue: 'webhooks',
  concurrency: 4,
});

/** Recovers webhooks page by page. Each page and the checkpoint after it are committed in one transaction. */
@Injectable()
export class WebhookRecovery {
  constructor(
    private readonly db: Database,
    private readonly history: EventHistory,
    private readonly active: ActiveWebhooks,
  ) {}

  @HandleTask(RecoverWebhook)
  async recover(context: TaskContext<Recovery, RecoveryState>): Promise<object> {
    const { since, to } = context.input;
    let state = context.state ?? (await this.restartBatches(context));
    for (let more = true; more;) {
      context.signal.throwIfAborted();
      const page = await this.history.page({ from: since, to, expired: false }, state.after, PAGE);
      const events = page.items.map(({ event }) => event);
      const before = state;
      state = await this.db.transaction(async (tx) => {
        const recovered = before.recovered + (await this.deliver(tx, context.input.webhookId, events));
        const done = { after: page.next, recovered };
        await context.checkpoint(done, tx);
        return done;
      });
      context.report({ recovered: state.recovered });
      if (page.next) context.progress(Date.parse(page.next.at) - Date.parse(since), Date.parse(to) - Date.parse(since));
      more = page.next !== null;
    }
    return { recovered: state.recovered };
  }

  /** Restarts failed deliveries of several events. */
  private restartBatches(context: TaskContext<Recovery, RecoveryState>): Promise<RecoveryState> {
    const { webhookId, since } = context.input;
    return this.db.transaction(async (tx) => {
      const failed = {
        webhookId,
        eventType: BATCH_TYPE,
        createdAt: MoreThanOrEqual(new Date(since)),
        status: 'failed',
      };
      const { affected } = await tx.update(WebhookDelivery, failed, STARTED_OVER);
      const state = { after: null, recovered: affected ?? 0 };
      await context.checkpoint(state, tx);
      return state;
    });
  }

  /** @returns how many deliveries were added or restarted. @throws AppError `conflict` when the webhook is no longer active */
  private async deliver(tx: Tx, webhookId: string, events: readonly StoredEvent[]): Promise<number> {
    const webhook = await tx.findOneBy(Webhook, { id: webhookId, active: true });
    if (!webhook) throw AppError.conflict('The webhook is not active any more');
    const wanted = events.flatMap((event) => {
      const type = this.active.typeFor(webhook, event.type);
      return type !== null && fits(webhook, event) ? [{ ...event, type }] : [];
    });
    if (wanted.length === 0) return 0;
    if (webhook.batchSize === null) return recoverDeliveries(tx, webhookId, wanted.map(bodyOf));
    const webhookIds = [webhookId];
    return addBatchItems(
      tx,
      wanted.map((event) => ({ ...bodyOf(event), seq: event.seq, webhookIds })),
    );
  }
}
