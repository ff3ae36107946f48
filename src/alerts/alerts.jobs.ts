import { defineJob } from '../platform/jobs/index.js';

/** What the clock does to alerts, and what a process that died has left. */
export const SweepAlerts = defineJob({ name: 'alert.sweep', queue: 'telemetry', attempts: 1, everyMs: 1000 });
