import { defineJob } from '../jobs/index.js';

/** Hands dead letters over again whose turn a crash has swallowed, and finds those that no handler could tell of. */
export const SweepDeadLetters = defineJob({
  name: 'events.dead-letters',
  queue: 'maintenance',
  attempts: 1,
  everyMs: 30_000,
});
