import { defineEvent, type EventDefinition, payloadSchema } from '../platform/events/index.js';
import { COMMAND_STATES, COMMAND_STATUSES, type Priority, PRIORITIES } from './command-status.js';

/** What every event of a command tells; ids are public ids. */
export interface CommandEventData {
  command_id: string;
  command_type: string;
  target: string;
  agent_id: string | null;
  parent_id: string | null;
  /** Name of the agent it is for; of a command of several agents who created it. */
  source: string;
  priority: Priority;
  status: string;
  substatus: string;
  error?: { code: string; message: string };
  exit_code?: number | null;
  duration_ms?: number;
}

const schema = payloadSchema(
  {
    command_id: { type: 'string' },
    command_type: { type: 'string' },
    target: { type: 'string' },
    agent_id: { type: ['string', 'null'] },
    parent_id: { type: ['string', 'null'], description: 'The command that was sent to several targets.' },
    source: {
      type: 'string',
      description: 'Name of the agent it is for, or `nexus`; of a command for several agents the id of who created it.',
    },
    priority: { enum: Object.keys(PRIORITIES) },
    status: { enum: COMMAND_STATUSES },
    substatus: { enum: COMMAND_STATES },
  },
  {
    error: {
      type: 'object',
      required: ['code', 'message'],
      properties: { code: { type: 'string' }, message: { type: 'string' } },
    },
    exit_code: { type: ['integer', 'null'] },
    duration_ms: { type: 'number' },
  },
);

function defineCommandEvent(type: string, summary: string): EventDefinition<CommandEventData> {
  return defineEvent<CommandEventData>(type, { summary, schema });
}

export const CommandQueued = defineCommandEvent('command.queued', 'A command was accepted and waits.');
export const CommandStarted = defineCommandEvent('command.started', 'A command began to run.');
export const CommandCompleted = defineCommandEvent('command.completed', 'A command ended well.');
export const CommandFailed = defineCommandEvent('command.failed', 'A command ended badly.');
export const CommandCancelled = defineCommandEvent('command.cancelled', 'A command was cancelled.');
export const CommandTimedOut = defineCommandEvent('command.timed_out', 'A command ran out of time.');
