import { defineJob } from '../jobs/index.js';

/** Deletes relayed events that are older than the retention. */
export const PurgeEvents = defineJob({ name: 'events.purge', queue: 'maintenance', cron: '47 3 * * *' });

/** Hands dead letters over again whose turn a crash has swallowed, and finds those that no handler could tell of. */
export const SweepDeadLetters = defineJob({
  name: 'events.dead-letters',
  queue: 'maintenance',
  attempts: 1,
  everyMs: 30_000,
});
