import { describe, expect, it } from 'vitest';
import {
  canBecome,
  COMMAND_STATES,
  COMMAND_STATUSES,
  isFinal,
  parentState,
  priorityWord,
  statesOf,
  statusOf,
} from './command-status.js';

describe('the states of a command', () => {
  it('lead out of every open state into every end, and out of no end', () => {
    for (const from of COMMAND_STATES) {
      for (const to of ['completed', 'failed', 'cancelled', 'timed_out'] as const) {
        expect(canBecome(from, to), `${from} to ${to}`).toBe(!isFinal(from));
      }
      expect(canBecome(from, from)).toBe(false);
    }
    expect(canBecome('running', 'delivered')).toBe(false);
  });

  it('are shown as one of five words, each of which finds what it shows', () => {
    for (const state of COMMAND_STATES) {
      expect(COMMAND_STATUSES).toContain(statusOf(state));
      expect(statesOf(statusOf(state))).toContain(state);
    }
    expect([statusOf('delivered'), statusOf('timed_out')]).toEqual(['queued', 'failed']);
    expect(statesOf('timed_out')).toEqual(['timed_out']);
  });
});

describe('the state of a parent', () => {
  it.each([
    [{ queued: 3 }, 'queued'],
    [{ queued: 1, completed: 2 }, 'running'],
    [{ delivered: 1 }, 'running'],
    [{ running: 1, failed: 4 }, 'running'],
    [{ completed: 3 }, 'completed'],
    [{ completed: 2, failed: 1, timed_out: 1, cancelled: 1 }, 'failed'],
    [{ completed: 2, timed_out: 1, cancelled: 1 }, 'timed_out'],
    [{ completed: 2, cancelled: 1 }, 'cancelled'],
  ] as const)('of %o is %s', (children, state) => {
    expect(parentState(children)).toBe(state);
  });
});

it('priorities have words', () => {
  expect([1, 3, 6, 9, 4].map(priorityWord)).toEqual(['low', 'normal', 'high', 'critical', 'normal']);
});
