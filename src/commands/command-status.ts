/** States of a command; `delivered` only after the agent's acknowledgement. */
export const COMMAND_STATES = [
  'queued',
  'delivered',
  'running',
  'completed',
  'failed',
  'cancelled',
  'timed_out',
] as const;
export type CommandState = (typeof COMMAND_STATES)[number];

/** The five words that every reader of the API knows; the finer state goes beside them as `substatus`. */
export const COMMAND_STATUSES = ['queued', 'running', 'completed', 'failed', 'cancelled'] as const;
export type CommandStatus = (typeof COMMAND_STATUSES)[number];

const NEXT: Record<CommandState, readonly CommandState[]> = {
  queued: ['delivered', 'running', 'completed', 'failed', 'cancelled', 'timed_out'],
  delivered: ['running', 'completed', 'failed', 'cancelled', 'timed_out'],
  // Back to the queue: a run that provably had no effect (an endpoint that could not be reached).
  running: ['queued', 'completed', 'failed', 'cancelled', 'timed_out'],
  completed: [],
  failed: [],
  cancelled: [],
  timed_out: [],
};

export function canBecome(from: CommandState, to: CommandState): boolean {
  return NEXT[from].includes(to);
}

export function isFinal(state: CommandState): boolean {
  return NEXT[state].length === 0;
}

export function statusOf(state: CommandState): CommandStatus {
  if (state === 'delivered') return 'queued';
  return state === 'timed_out' ? 'failed' : state;
}

/** States behind a word of the API's status filter; the finer words select just themselves. */
export function statesOf(word: CommandStatus | CommandState): CommandState[] {
  if (word === 'queued') return ['queued', 'delivered'];
  return word === 'failed' ? ['failed', 'timed_out'] : [word];
}

/** State of a parent from how many of its children are in which state. */
export function parentState(children: Partial<Record<CommandState, number>>): CommandState {
  const count = (...states: CommandState[]): number => states.reduce((sum, s) => sum + (children[s] ?? 0), 0);
  const open = count('queued', 'delivered', 'running');
  const all = count(...COMMAND_STATES);
  if (open > 0) return open === count('queued') && open === all ? 'queued' : 'running';
  if (count('failed') > 0) return 'failed';
  if (count('timed_out') > 0) return 'timed_out';
  return count('cancelled') > 0 ? 'cancelled' : 'completed';
}

export const PRIORITIES = { low: 1, normal: 3, high: 6, critical: 9 } as const;
export type Priority = keyof typeof PRIORITIES;

/** The word of a stored priority. */
export function priorityWord(value: number): Priority {
  return (Object.keys(PRIORITIES) as Priority[]).find((word) => PRIORITIES[word] === value) ?? 'normal';
}
