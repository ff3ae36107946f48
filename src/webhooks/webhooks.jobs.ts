import { defineJob } from '../platform/jobs/index.js';

/** Offers due deliveries to the process it runs in: retries, and what a crash has left. */
export const SweepDeliveries = defineJob({ name: 'webhook.sweep', queue: 'webhooks', attempts: 1, everyMs: 1000 });

/** Deletes finished deliveries past their retention. */
export const PurgeDeliveries = defineJob({
  name: 'webhook.purge',
  queue: 'maintenance',
  attempts: 3,
  cron: '47 3 * * *',
});
