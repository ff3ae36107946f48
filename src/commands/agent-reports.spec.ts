import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type AgentReport, applyReport, resumeOffset, storableJson } from './agent-reports.js';
import { CommandTransition, type CommandRow } from './command-draft.js';
import { isFinal } from './command-status.js';

const ID = '11111111-1111-4111-8111-111111111111';

function row(more: Partial<CommandRow> = {}): CommandRow {
  return {
    id: ID,
    parentId: null,
    commandType: 'system.ping',
    target: 'a',
    agentId: ID,
    executor: 'link',
    targetName: 'a',
    priority: 3,
    createdBy: 'user_1',
    status: 'queued',
    createdAt: new Date(0),
    deliveredAt: null,
    startedAt: null,
    completedAt: null,
    deadlineAt: new Date(300_000),
    dueAt: null,
    attempts: 0,
    result: null,
    heldResult: null,
    outputBytes: 0,
    outputTruncated: false,
    callbackUrl: null,
    callbackAttempts: 0,
    callbackDueAt: null,
    ...more,
  };
}

const output = (offset: number, data: string): AgentReport => ({
  type: 'command_output',
  command_id: ID,
  stream: 'stdout',
  offset,
  encoding: 'utf8',
  data,
});

const result = (output_bytes: number): AgentReport => ({
  type: 'command_result',
  command_id: ID,
  status: 'completed',
  message: 'done',
  exit_code: 0,
  signal: null,
  started_at: null,
  completed_at: new Date(1000).toISOString(),
  duration_ms: 1,
  output_bytes,
  output_truncated: false,
});

const TEXT = 'abcdefghijklmnopqrstuvwxyz';
const LIMIT = 1000;

describe('reports of an agent', () => {
  it('in any order, cut anyhow and repeated, store each byte once and end the command once', () => {
    const anyReport = fc.oneof(
      fc.constant<AgentReport>({ type: 'command_ack', command_id: ID }),
      fc.constant<AgentReport>({ type: 'command_started', command_id: ID, started_at: new Date(0).toISOString() }),
      fc.constant(result(TEXT.length)),
      fc
        .tuple(fc.nat(TEXT.length - 1), fc.integer({ min: 1, max: 8 }))
        .map(([from, length]) => output(from, TEXT.slice(from, from + length))),
    );
    fc.assert(
      fc.property(fc.array(anyReport, { maxLength: 40 }), (reports) => {
        const current = row();
        let stored = '';
        let ends = 0;
        // At last the agent says everything again, as it does until it is acknowledged.
        for (const report of [...reports, output(0, TEXT), result(TEXT.length)]) {
          const before = current.status;
          const transition = new CommandTransition(current, new Date());
          applyReport(transition, report, LIMIT);
          for (const { offset, data } of transition.output) {
            expect(offset).toBe(stored.length);
            stored += data.toString();
          }
          if (isFinal(before)) expect(current.status).toBe(before);
          ends += transition.passed.filter(isFinal).length;
        }
        expect(stored).toBe(TEXT);
        expect(current).toMatchObject({ status: 'completed', outputBytes: TEXT.length, heldResult: null });
        expect(ends).toBe(1);
        expect(current.attempts).toBeLessThanOrEqual(1);
      }),
    );
  });

  it('that come after the end never change it', () => {
    for (const status of ['cancelled', 'timed_out', 'failed'] as const) {
      const transition = new CommandTransition(row({ status }), new Date());
      for (const report of [result(0), result(0), output(0, 'x')]) applyReport(transition, report, LIMIT);
      expect(transition.row.status).toBe(status);
      expect(transition.passed).toEqual([]);
      expect(transition.notes).toHaveLength(status === 'failed' ? 0 : 1);
    }
  });

  it('make the agent stop what has ended meanwhile', () => {
    const transition = new CommandTransition(row({ status: 'cancelled' }), new Date());
    expect(applyReport(transition, { type: 'command_ack', command_id: ID }, LIMIT)).toMatchObject({ type: 'cancel' });
  });

  it('of a refusal for want of room leave the command queued', () => {
    const transition = new CommandTransition(row(), new Date());
    applyReport(transition, { type: 'command_refused', command_id: ID, code: 'BUSY', message: 'full' }, LIMIT);
    expect(transition).toMatchObject({ changed: false, row: { status: 'queued' } });
    applyReport(transition, { type: 'command_refused', command_id: ID, code: 'EXPIRED', message: 'late' }, LIMIT);
    expect(transition.row).toMatchObject({ status: 'timed_out', result: { error: { code: 'TIMEOUT' } } });
  });

  it('say where an agent that returns goes on', () => {
    expect(resumeOffset(row({ status: 'running', outputBytes: 7 }))).toBe(7);
    expect(resumeOffset(row({ status: 'completed', outputBytes: 7 }))).toBe(-1);
    expect(resumeOffset(row({ status: 'cancelled', outputBytes: 7 }))).toBe(7);
  });

  it('lose only the characters that cannot be stored', () => {
    expect(storableJson({ 'a\0': ['\ud800x', '\u{1f600}', 1, null] })).toEqual({
      'a\ufffd': ['\ufffdx', '\u{1f600}', 1, null],
    });
  });
});
