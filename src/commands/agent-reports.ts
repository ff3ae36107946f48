import type { AgentFrame, ServerFrame } from '@nexus/agent/protocol';
import type { CommandRow, CommandTransition } from './command-draft.js';
import { isFinal } from './command-status.js';
import type { CommandResult } from './command.entity.js';

/** A frame by which an agent reports on a command. */
export type AgentReport = Extract<AgentFrame, { command_id: string }>;
type OutputFrame = Extract<AgentReport, { type: 'command_output' }>;
type ResultFrame = Extract<AgentReport, { type: 'command_result' }>;

/**
 * Applies one report to a command: repeated and late reports change nothing but the timeline.
 * @param outputLimit bytes of output kept per command; the rest is acknowledged and dropped
 * @returns what the agent is told once the change is stored
 */
export function applyReport(
  transition: CommandTransition,
  report: AgentReport,
  outputLimit: number,
): ServerFrame | null {
  const { row } = transition;
  switch (report.type) {
    case 'command_ack':
      return transition.become('delivered') ? null : cancelIfOver(transition);
    case 'command_started':
      if (row.status === 'running' || !transition.become('running')) return cancelIfOver(transition);
      row.attempts += 1;
      return null;
    case 'command_output':
      takeOutput(transition, report, outputLimit);
      return (
        settleHeld(transition) ?? { type: 'output_ack', command_id: report.command_id, next_offset: row.outputBytes }
      );
    case 'command_result':
      return takeResult(transition, report);
    case 'command_refused':
      // Only a command that was not accepted before can be refused; "not now" leaves it queued, to be sent again later.
      if (row.status !== 'queued' || isNotNow(report)) return null;
      transition.giveUp(isExpiry(report.code) ? 'timed_out' : 'failed', {
        code: isExpiry(report.code) ? 'TIMEOUT' : storable(report.code),
        message: `The agent refused the command: ${storable(report.message)}`,
      });
      return null;
  }
}

/** What an agent that comes back has to do about a command it still holds; -1: it may forget it. */
export function resumeOffset(row: Pick<CommandRow, 'status' | 'heldResult' | 'outputBytes'>): number {
  const settled = isFinal(row.status) && (row.heldResult !== null || !endedWithoutAgent(row.status));
  return settled ? -1 : row.outputBytes;
}

function endedWithoutAgent(status: string): boolean {
  return status === 'cancelled' || status === 'timed_out';
}

/** An agent that holds a command which has ended here without it must not run it any further. */
function cancelIfOver({ row }: CommandTransition): ServerFrame | null {
  if (!isFinal(row.status) || row.heldResult !== null) return null;
  return { type: 'cancel', command_id: row.id, reason: `The command is ${row.status}` };
}

function takeOutput(transition: CommandTransition, frame: OutputFrame, limit: number): void {
  const { row } = transition;
  if (isFinal(row.status) && !endedWithoutAgent(row.status)) return;
  const bytes = Buffer.from(frame.data, frame.encoding);
  const known = row.outputBytes - frame.offset;
  // A gap is not stored: the acknowledgement tells the agent from where to send again.
  if (known < 0 || known >= bytes.length) return;
  const fresh = bytes.subarray(known);
  const kept = fresh.subarray(0, Math.max(0, limit - row.outputBytes));
  if (kept.length > 0) transition.output.push({ stream: frame.stream, offset: row.outputBytes, data: kept });
  if (kept.length < fresh.length) row.outputTruncated = true;
  row.outputBytes += fresh.length;
  transition.changed = true;
  // Output without a start: the report of the start was lost with a link.
  if (transition.become('running')) row.attempts += 1;
}

function takeResult(transition: CommandTransition, frame: ResultFrame): ServerFrame {
  const { row } = transition;
  const done: ServerFrame = { type: 'result_ack', command_id: frame.command_id };
  if (isFinal(row.status)) {
    if (endedWithoutAgent(row.status) && row.heldResult === null) {
      row.heldResult = { ...resultOf(transition, frame), status: frame.status };
      transition.note(`late_${frame.status}`, 'The agent reported this after the command had ended');
    }
    return done;
  }
  row.heldResult = { ...resultOf(transition, frame), status: frame.status };
  transition.changed = true;
  return settleHeld(transition) ?? { type: 'output_ack', command_id: frame.command_id, next_offset: row.outputBytes };
}

/** Ends the command with the result it reported, once all of its output is here. */
function settleHeld(transition: CommandTransition): ServerFrame | null {
  const { row } = transition;
  const held = row.heldResult;
  if (held === null || isFinal(row.status) || row.outputBytes < held.output_bytes) return null;
  return finishHeld(transition);
}

/** Ends the command with the result it reported, output complete or not. */
export function finishHeld(transition: CommandTransition): ServerFrame | null {
  const { row } = transition;
  if (row.heldResult === null) return null;
  const { status, ...result } = row.heldResult;
  const complete = row.outputBytes >= result.output_bytes;
  transition.finish(
    status,
    { ...result, output_truncated: result.output_truncated || row.outputTruncated || !complete },
    complete ? undefined : 'Part of the output never arrived',
  );
  row.heldResult = null;
  return { type: 'result_ack', command_id: row.id };
}

function resultOf(transition: CommandTransition, frame: ResultFrame): CommandResult {
  const success = frame.status === 'completed';
  const fallback = { code: frame.status === 'timed_out' ? 'TIMEOUT' : 'COMMAND_FAILED', message: frame.message };
  return {
    success,
    message: storable(frame.message),
    exit_code: frame.exit_code,
    signal: frame.signal,
    data: storableJson(frame.data ?? null),
    error: success ? null : (storableJson(frame.error ?? fallback) as { code: string; message: string }),
    duration_ms: frame.duration_ms,
    output_bytes: frame.output_bytes,
    output_truncated: frame.output_truncated || transition.row.outputTruncated,
  };
}

/** The agent has no room at the moment. */
export function isNotNow(report: AgentReport): boolean {
  return report.type === 'command_refused' && (report.code === 'BUSY' || report.code === 'STORAGE_FAILED');
}

function isExpiry(code: string): boolean {
  return /expired/i.test(code);
}

/** Text as PostgreSQL takes it: no NUL, no half of a surrogate pair. */
export function storable(text: string): string {
  return text.replace(/[\0\ud800-\udfff]/gu, '\ufffd');
}

export function storableJson(value: unknown): unknown {
  if (typeof value === 'string') return storable(value);
  if (Array.isArray(value)) return value.map(storableJson);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [storable(key), storableJson(inner)]));
}
