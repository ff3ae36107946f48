import { defineJob, type JobQueue } from '../platform/jobs/index.js';
import type { Command } from './command.entity.js';

type Job = Parameters<JobQueue['enqueueMany']>[0][number];

/**
 * Sends a command to the HTTP endpoint of its agent. `attempt`: runs begun before. A queue of its own, as have built-ins and
 * callbacks: a run may take an hour, and slow endpoints must not hold up anything else.
 */
export const RunCommand = defineJob<{ commandId: string; attempt: number }>({
  name: 'command.run',
  queue: 'command-runs',
  attempts: 3,
  dedupe: (p) => `${p.commandId}-${p.attempt}`,
});

/** Runs a command that is built into the server. */
export const RunBuiltin = defineJob<{ commandId: string; attempt: number }>({
  name: 'command.run-builtin',
  queue: 'command-builtins',
  attempts: 3,
  dedupe: (p) => `${p.commandId}-${p.attempt}`,
});

/** What decides when a run begins. */
export type DueRun = Pick<Command, 'id' | 'attempts' | 'priority' | 'createdAt' | 'executor'>;

/** More than any urgency: nine for a critical command and one for each minute of an hour. */
const MAX_URGENCY = 70;

/**
 * The job of a run, as urgent as its command is now.
 * @param round makes a job of its own beside those of other rounds
 */
export function runJob({ id, attempts, priority, createdAt, executor }: DueRun, round?: number): Job {
  const waitedMinutes = Math.floor((Date.now() - createdAt.getTime()) / 60_000);
  return {
    job: (executor === 'builtin' ? RunBuiltin : RunCommand) as Job['job'],
    payload: { commandId: id, attempt: attempts },
    options: {
      // For the queue 1 is the most urgent.
      priority: Math.max(1, MAX_URGENCY - priority - waitedMinutes),
      ...(round === undefined ? {} : { jobId: `${id}-${attempts}-${round}` }),
    },
  };
}

/** Sends the result to the command's callback URL; the row says when the next try is due. */
export const SendCallback = defineJob<{ commandId: string; attempt: number }>({
  name: 'command.callback',
  queue: 'command-callbacks',
  attempts: 1,
  dedupe: (p) => `${p.commandId}-${p.attempt}`,
});

/** Ends commands past their deadline, restarts runs and callbacks that are due. */
export const SweepCommands = defineJob({ name: 'command.sweep', queue: 'commands', attempts: 1, everyMs: 1000 });
