import { defineJob } from '../jobs/index.js';

/** Gives a worker what waits, and what a process has left that died. */
export const SweepTasks = defineJob({ name: 'background.sweep', queue: 'maintenance', attempts: 1, everyMs: 2000 });
