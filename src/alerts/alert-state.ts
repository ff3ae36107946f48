import type { RuleDefinition } from './rule-definition.js';
import type { Verdict } from './verdict.js';

/** `pending`: the condition holds, but not long or often enough yet. `clearing`: raised, and the clear condition holds. */
export type Phase = 'ok' | 'pending' | 'firing' | 'clearing';

/** Where a rule stands with one group. Times are milliseconds since 1970: `since` and `lastTs` of events, others of the clock. */
export interface GroupState {
  phase: Phase;
  /** Events in a row for which the condition held, while pending. */
  matches: number;
  /** Time of the event with which the phase began. */
  since: number | null;
  /** Time of the newest event that counted; older ones no longer do. */
  lastTs: number;
  raisedAt: number | null;
  /** When the clock moves the state on, if no event does before. */
  dueAt: number | null;
}

export interface Timing {
  forMs: number;
  times: number;
  clearForMs: number;
  flapMs: number;
}

export type Effect = 'raise' | 'clear' | null;

const NEVER = 0;

export function newState(): GroupState {
  return { phase: 'ok', matches: 0, since: null, lastTs: NEVER, raisedAt: null, dueAt: null };
}

export function timingOf(definition: RuleDefinition): Timing {
  return {
    forMs: definition.for_seconds * 1000,
    times: definition.times,
    clearForMs: definition.clear_for_seconds * 1000,
    flapMs: definition.flap_window_seconds * 1000,
  };
}

/** Moves the state on by what an event of time `ts` says, at the time `now`. Events older than the last one change nothing. */
export function takeEvent(state: GroupState, ts: number, verdict: Verdict, timing: Timing, now: number): Effect {
  if (ts < state.lastTs || verdict === 'silent') return null;
  state.lastTs = ts;
  switch (state.phase) {
    case 'ok':
      return verdict === 'breach' ? begin(state, ts, timing, now) : null;
    case 'pending':
      return stillPending(state, ts, verdict, timing, now);
    case 'firing':
      return verdict === 'clear' ? beginToClear(state, ts, timing, now) : null;
    case 'clearing':
      if (verdict !== 'clear') return enter(state, 'firing', null, null);
      return ts - (state.since ?? ts) >= timing.clearForMs && now >= quietFrom(state, timing) ? end(state) : null;
  }
}

/** Moves the state on when its time has come. */
export function takeTime(state: GroupState, now: number): Effect {
  if (state.dueAt === null || now < state.dueAt) return null;
  if (state.phase === 'pending') return raise(state, now);
  return state.phase === 'clearing' ? end(state) : null;
}

/** Of an absence, or by hand: raised or ended without an event. */
export function raise(state: GroupState, now: number): Effect {
  state.raisedAt = now;
  enter(state, 'firing', state.since, null);
  return 'raise';
}

export function end(state: GroupState): Effect {
  state.raisedAt = null;
  enter(state, 'ok', null, null);
  return 'clear';
}

function begin(state: GroupState, ts: number, timing: Timing, now: number): Effect {
  if (timing.forMs === 0 && timing.times <= 1) {
    state.since = ts;
    return raise(state, now);
  }
  enter(state, 'pending', ts, timing.forMs > 0 ? now + timing.forMs : null);
  state.matches = 1;
  return null;
}

function stillPending(state: GroupState, ts: number, verdict: Verdict, timing: Timing, now: number): Effect {
  if (verdict !== 'breach') return enter(state, 'ok', null, null);
  state.matches++;
  const enough = timing.forMs > 0 ? ts - (state.since ?? ts) >= timing.forMs : state.matches >= timing.times;
  return enough ? raise(state, now) : null;
}

function beginToClear(state: GroupState, ts: number, timing: Timing, now: number): Effect {
  const dueAt = Math.max(now + timing.clearForMs, quietFrom(state, timing));
  if (dueAt <= now) return end(state);
  return enter(state, 'clearing', ts, dueAt);
}

/** An alert lasts at least this long, so that a value that swings raises and clears once per window. */
function quietFrom(state: GroupState, timing: Timing): number {
  return (state.raisedAt ?? 0) + timing.flapMs;
}

function enter(state: GroupState, phase: Phase, since: number | null, dueAt: number | null): null {
  state.phase = phase;
  state.since = since;
  state.dueAt = dueAt;
  state.matches = 0;
  return null;
}
