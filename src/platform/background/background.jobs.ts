import { defineJob } from '../jobs/index.js';

/** Gives a worker what waits, and what a process has left that died. */
export const SweepTasks = defineJob({ name: 'background.sweep', queue: 'maintenance', attempts: 1, everyMs: 2000 });

/** Deletes tasks that ended longer ago than the retention, with their logs. */
export const PurgeTasks = defineJob({
  name: 'background.purge',
  queue: 'maintenance',
  attempts: 3,
  cron: '53 3 * * *',
});
