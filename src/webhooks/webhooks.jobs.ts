import { defineJob } from '../platform/jobs/index.js';

/** Offers due deliveries to the process it runs in: retries, and deliveries that a crash interrupted. */
export const SweepDeliveries = defineJob({ name: 'webhook.sweep', queue: 'webhooks', attempts: 1, everyMs: 1000 });
