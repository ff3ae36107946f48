export { ManagedWebhooks, type ManagedWebhook } from './managed-webhooks.js';
export { BatchConfigDto, RetryConfigDto } from './webhooks.dto.js';
export { WebhooksModule } from './webhooks.module.js';
export { EventDeliveries, type EventDelivery } from './event-deliveries.js';
export { WebhookReplays } from './webhook-replays.js';
