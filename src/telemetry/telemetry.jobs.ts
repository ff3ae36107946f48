import { defineJob } from '../platform/jobs/index.js';

/** Makes the partitions of the coming days and drops what is past its retention. */
export const KeepTelemetryPartitions = defineJob({
  name: 'telemetry.keep-partitions',
  queue: 'telemetry',
  everyMs: 3_600_000,
});

/** Rolls up the minutes that events were stored in, and what is made of them. */
export const RollUpTelemetry = defineJob({ name: 'telemetry.roll-up', queue: 'telemetry', everyMs: 5000, attempts: 1 });
