/** Dotted lower case. */
export const EVENT_NAME = /^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$/;

/** `*`, a name, or a name with `*` for all before or behind it: `task.completed`, `task.*`, `*.created`. */
export const EVENT_PATTERN = /^(\*|(\*\.)?[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*(\.\*)?)$/;
export const EVENT_PATTERN_RULE = 'each of events must be an event name such as task.completed, task.*, *.created or *';

/** A `*` stands for one or more words. */
export function matchesEvent(pattern: string, type: string): boolean {
  if (pattern === '*') return true;
  const before = pattern.startsWith('*.');
  const behind = pattern.endsWith('.*');
  const core = pattern.slice(before ? 2 : 0, behind ? -2 : undefined);
  if (before && behind) return type.includes(`.${core}.`);
  if (before) return type.endsWith(`.${core}`);
  return behind ? type.startsWith(`${core}.`) : type === core;
}
