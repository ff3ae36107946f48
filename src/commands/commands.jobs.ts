import { defineJob } from '../platform/jobs/index.js';

/** Runs a command that the server itself carries out (built-in, HTTP endpoint of an agent). `attempt`: runs begun before. */
export const RunCommand = defineJob<{ commandId: string; attempt: number }>({
  name: 'command.run',
  // A queue of its own: a run may take an hour and must not hold up dispatching.
  queue: 'command-runs',
  attempts: 3,
  dedupe: (p) => `${p.commandId}-${p.attempt}`,
});

/** Sends the result to the command's callback URL; the row says when the next try is due. */
export const SendCallback = defineJob<{ commandId: string; attempt: number }>({
  name: 'command.callback',
  queue: 'command-runs',
  attempts: 1,
  dedupe: (p) => `${p.commandId}-${p.attempt}`,
});

/** Ends commands past their deadline, restarts runs and callbacks that are due. */
export const SweepCommands = defineJob({ name: 'command.sweep', queue: 'commands', attempts: 1, everyMs: 1000 });

/** Deletes finished commands past their retention. */
export const PurgeCommands = defineJob({
  name: 'command.purge',
  queue: 'maintenance',
  attempts: 3,
  cron: '17 3 * * *',
});
