import { Module, type OnModuleInit } from '@nestjs/common';
import { IsNull, Not } from 'typeorm';
import { Database, DatabaseModule } from '../platform/database/index.js';
import { EventsModule } from '../platform/events/index.js';
import { HttpModule } from '../platform/http/index.js';
import { JobsModule } from '../platform/jobs/index.js';
import { HealthRegistry, Metrics } from '../platform/observability/index.js';
import { RetentionModule } from '../platform/retention/index.js';
import { ActiveWebhooks } from './active-webhooks.js';
import { Batches } from './batches.js';
import { Courier } from './courier.js';
import { DeliveriesController } from './deliveries.controller.js';
import { DeliveryAttempt } from './delivery-attempt.js';
import { EventDeliveries } from './event-deliveries.js';
import { ManagedWebhooks } from './managed-webhooks.js';
import { WebhookAttempt } from './webhook-attempt.entity.js';
import { WebhookBatchItem } from './webhook-batch-item.entity.js';
import { WebhookDeliveries } from './webhook-deliveries.service.js';
import { WebhookDelivery } from './webhook-delivery.entity.js';
import { WebhookHealth } from './webhook-health.js';
import { WebhookRecovery } from './webhook-recovery.js';
import { WebhookReplays } from './webhook-replays.js';
import { WebhookRights } from './webhook-rights.js';
import { WebhookSecrets } from './webhook-secrets.js';
import { Webhook } from './webhook.entity.js';
import { WebhooksController } from './webhooks.controller.js';
import { WebhookDisabled, WebhookPing } from './webhooks.events.js';
import { SweepDeliveries } from './webhooks.jobs.js';
import { WebhooksService } from './webhooks.service.js';
import { WebhookSettings } from './webhooks.settings.js';
import { WebhooksWorker } from './webhooks.worker.js';

declare module '../platform/ids/id-prefixes.js' {
  interface IdPrefixes {
    webhook: 'webhook';
    dlv: 'delivery';
    job: 'recovery of deliveries';
  }
}

/** Tells the programs of others what happens here. Only listens: nobody who publishes an event knows it. */
@Module({
  imports: [
    EventsModule.forFeature({
      events: [WebhookDisabled, WebhookPing],
      families: [{ types: ['webhook.*'], channel: 'webhooks.events', scope: 'webhook:read' }],
    }),
    JobsModule.forFeature([SweepDeliveries]),
    HttpModule.forFeature({ tags: { webhooks: 'Tell other programs what happens, and what was told' } }),
    DatabaseModule.forFeature([WebhookAttempt, WebhookBatchItem, WebhookDelivery, Webhook]),
    RetentionModule.forFeature([
      {
        entity: WebhookDelivery,
        column: 'finishedAt',
        days: (settings) => settings.get(WebhookSettings).retentionDays,
        where: { status: Not<WebhookDelivery['status']>('pending') },
      },
    ]),
  ],
  controllers: [WebhooksController, DeliveriesController],
  providers: [
    ActiveWebhooks,
    Batches,
    Courier,
    DeliveryAttempt,
    EventDeliveries,
    ManagedWebhooks,
    WebhookDeliveries,
    WebhookHealth,
    WebhookRecovery,
    WebhookReplays,
    WebhookRights,
    WebhookSecrets,
    WebhooksService,
    WebhooksWorker,
  ],
  exports: [EventDeliveries, ManagedWebhooks, WebhookReplays],
})
export class WebhooksModule implements OnModuleInit {
  constructor(
    private readonly db: Database,
    private readonly metrics: Metrics,
    private readonly health: HealthRegistry,
  ) {}

  onModuleInit(): void {
    const pending = (): Promise<number> => this.db.repository(WebhookDelivery).countBy({ status: 'pending' });
    this.metrics.sharedGauge(
      'nexus_webhook_deliveries_pending',
      'Deliveries that have not ended',
      [],
      async function () {
        this.set(await pending());
      },
    );
    this.health.register('webhooks', async () => {
      const webhooks = this.db.repository(Webhook);
      const active = await webhooks.countBy({ active: true });
      const disabled = await webhooks.countBy({ disabledAt: Not(IsNull()) });
      return { active, disabled, deliveries_pending: await pending() };
    });
  }
}
