import { defineJob } from '../platform/jobs/index.js';

/** Offers due deliveries to the process it runs in: retries, and what a crash has left. */
export const SweepDeliveries = defineJob({ name: 'webhook.sweep', queue: 'webhooks', attempts: 1, everyMs: 1000 });
