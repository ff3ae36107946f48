import { defineJob } from '../platform/jobs/index.js';

/** Turns minutes of high-rate routes that are over into audit entries. */
export const SealAuditMinutes = defineJob({ name: 'audit.seal-minutes', queue: 'security', everyMs: 15_000 });
