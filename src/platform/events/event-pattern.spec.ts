import { describe, expect, it } from 'vitest';
import { EVENT_PATTERN, matchesEvent } from './event-pattern.js';

describe('event patterns', () => {
  it.each([
    ['*', 'task.created', true],
    ['task.created', 'task.created', true],
    ['task.created', 'task.created.again', false],
    ['task.*', 'task.created', true],
    ['task.*', 'task.created.again', true],
    ['task.*', 'tasks.created', false],
    ['task.*', 'task', false],
    ['*.created', 'user.created', true],
    ['*.created', 'user.recreated', false],
    ['*.alert.*', 'telemetry.alert.resolved', true],
    ['*.alert.*', 'telemetry.alert', false],
  ])('%s and %s: %s', (pattern, type, expected) => {
    expect(EVENT_PATTERN.test(pattern)).toBe(true);
    expect(matchesEvent(pattern, type)).toBe(expected);
  });

  it.each(['', 'Task.created', 'task.', '.created', 'ta*', '**', 'task.*.created', 'task created', '*.'])(
    'refuse %j',
    (pattern) => expect(EVENT_PATTERN.test(pattern)).toBe(false),
  );
});
