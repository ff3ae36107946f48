import { publicId } from '../platform/http/index.js';
import type { CommandResult, Executor, TimelineEntry } from './command-draft.js';
import { type CommandState, priorityWord, statusOf } from './command-status.js';
import type { CommandDetailDto, CommandDto } from './commands.dto.js';

/** A command as it is shown. */
export interface CommandView {
  id: string;
  parent_id: string | null;
  retry_of: string | null;
  command_type: string;
  target: string;
  agent_id: string | null;
  executor: Executor;
  parameters: Record<string, unknown>;
  priority: number;
  timeout_seconds: number;
  status: CommandState;
  callback_url: string | null;
  created_by: string;
  created_at: Date;
  delivered_at: Date | null;
  started_at: Date | null;
  completed_at: Date | null;
  attempts: number;
}

export interface CommandDetail extends CommandView {
  result: CommandResult | null;
  timeline: TimelineEntry[];
}

/** Select list of {@link CommandView}. */
export const VIEW_COLUMNS = `id, parent_id, retry_of, command_type, target, agent_id, executor, parameters, priority,
  timeout_seconds, status, callback_url, created_by, created_at, delivered_at, started_at, completed_at, attempts`;

export function toCommandDto(row: CommandView): CommandDto {
  return {
    command_id: publicId('cmd', row.id),
    command_type: row.command_type,
    target: row.target,
    agent_id: row.agent_id && publicId('agent', row.agent_id),
    status: statusOf(row.status),
    substatus: row.status,
    priority: priorityWord(row.priority),
    parameters: row.parameters,
    timeout_seconds: row.timeout_seconds,
    callback_url: row.callback_url,
    parent_id: row.parent_id && publicId('cmd', row.parent_id),
    retry_of: row.retry_of && publicId('cmd', row.retry_of),
    created_by: row.created_by,
    created_at: row.created_at.toISOString(),
    delivered_at: row.delivered_at?.toISOString() ?? null,
    started_at: row.started_at?.toISOString() ?? null,
    completed_at: row.completed_at?.toISOString() ?? null,
    attempts: row.attempts,
  };
}

/** `output`: the beginning of what the command printed. */
export function toCommandDetailDto(row: CommandDetail, output: Buffer): CommandDetailDto {
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
