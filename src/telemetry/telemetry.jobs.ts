import { defineJob } from '../platform/jobs/index.js';

/** Rolls up the minutes that events were stored in, and what is made of them. */
export const RollUpTelemetry = defineJob({ name: 'telemetry.roll-up', queue: 'telemetry', everyMs: 5000, attempts: 1 });
