import { defineJob } from '../platform/jobs/index.js';

/** Finds the agents whose heartbeats stopped. */
export const SweepAgents = defineJob({ name: 'agents.sweep', queue: 'agents', attempts: 1, everyMs: 5000 });
