import { publicId } from '../platform/ids/index.js';
import { priorityWord, statusOf } from './command-status.js';
import type { Command } from './command.entity.js';
import type { CommandDetailDto, CommandDto } from './commands.dto.js';

/** What is shown of a command in a list: without its large columns. */
export const VIEW = [
  'id',
  'parentId',
  'retryOf',
  'commandType',
  'target',
  'agentId',
  'executor',
  'parameters',
  'priority',
  'timeoutSeconds',
  'status',
  'callbackUrl',
  'createdBy',
  'createdAt',
  'deliveredAt',
  'startedAt',
  'completedAt',
  'attempts',
] as const satisfies (keyof Command)[];
export type CommandView = Pick<Command, (typeof VIEW)[number]>;

export function toCommandDto(row: CommandView): CommandDto {
  return {
    command_id: publicId('cmd', row.id),
    command_type: row.commandType,
    target: row.target,
    agent_id: row.agentId && publicId('agent', row.agentId),
    status: statusOf(row.status),
    substatus: row.status,
    priority: priorityWord(row.priority),
    parameters: row.parameters,
    timeout_seconds: row.timeoutSeconds,
    callback_url: row.callbackUrl,
    parent_id: row.parentId && publicId('cmd', row.parentId),
    retry_of: row.retryOf && publicId('cmd', row.retryOf),
    created_by: row.createdBy,
    created_at: row.createdAt.toISOString(),
    delivered_at: row.deliveredAt?.toISOString() ?? null,
    started_at: row.startedAt?.toISOString() ?? null,
    completed_at: row.completedAt?.toISOString() ?? null,
    attempts: row.attempts,
  };
}

/** `output`: the beginning of what the command printed. */
export function toCommandDetailDto(row: Command, output: Buffer): CommandDetailDto {
  return {
    ...toCommandDto(row),
    result: row.result && { ...row.result, output: textOf(output) },
    timeline: row.timeline,
  };
}

/** Bytes as text; a character cut in two at the end is left out. */
function textOf(bytes: Buffer): string {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes, { stream: true });
}
