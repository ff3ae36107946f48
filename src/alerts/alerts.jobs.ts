import { defineJob } from '../platform/jobs/index.js';

/** What the clock does to alerts, and what a process that died has left. */
export const SweepAlerts = defineJob({ name: 'alert.sweep', queue: 'telemetry', attempts: 1, everyMs: 1000 });

/** Deletes cleared alerts past their retention, and silences long over. */
export const PurgeAlerts = defineJob({ name: 'alert.purge', queue: 'maintenance', attempts: 3, cron: '17 4 * * *' });
