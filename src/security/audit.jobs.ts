import { defineJob } from '../platform/jobs/index.js';

/** Turns minutes of high-rate routes that are over into audit entries. */
export const SealAuditMinutes = defineJob({ name: 'audit.seal-minutes', queue: 'security', everyMs: 15_000 });

/** Makes the partitions of the coming months and drops those past the retention. */
export const KeepAuditPartitions = defineJob({
  name: 'audit.keep-partitions',
  queue: 'security',
  everyMs: 3_600_000,
});
