import { defineJob } from '../platform/jobs/index.js';

/** Forgets which messages came more than a week ago. */
export const PurgeHookReceipts = defineJob({
  name: 'hooks.purge',
  queue: 'maintenance',
  attempts: 3,
  cron: '53 3 * * *',
});
