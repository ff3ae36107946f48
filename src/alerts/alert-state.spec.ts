import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type GroupState, newState, takeEvent, takeTime, type Timing } from './alert-state.js';
import type { Verdict } from './verdict.js';

const PLAIN: Timing = { forMs: 0, times: 1, clearForMs: 0, flapMs: 0 };

function play(state: GroupState, timing: Timing, events: [ts: number, verdict: Verdict, now?: number][]): unknown[] {
  return events.map(([ts, verdict, now = ts]) => takeEvent(state, ts, verdict, timing, now));
}

describe('the state of a group', () => {
  it('raises and clears', () => {
    const state = newState();
    expect(
      play(state, PLAIN, [
        [1, 'clear'],
        [2, 'breach'],
        [3, 'breach'],
        [4, 'between'],
        [5, 'clear'],
      ]),
    ).toEqual([null, 'raise', null, null, 'clear']);
    expect(state.phase).toBe('ok');
  });

  it('passes over what is older than the last event, and what says nothing', () => {
    const state = newState();
    expect(
      play(state, PLAIN, [
        [10, 'breach'],
        [9, 'clear'],
        [11, 'silent'],
        [10, 'clear'],
      ]),
    ).toEqual(['raise', null, null, 'clear']);
  });

  it('counts in a row', () => {
    const timing = { ...PLAIN, times: 3 };
    const state = newState();
    const said: [number, Verdict][] = [
      [1, 'breach'],
      [2, 'breach'],
      [3, 'clear'],
      [4, 'breach'],
      [5, 'breach'],
    ];
    expect(play(state, timing, said)).toEqual([null, null, null, null, null]);
    expect(play(state, timing, [[6, 'breach']])).toEqual(['raise']);
  });

  it('waits by the times of events or by the clock, whichever is first', () => {
    const timing = { ...PLAIN, forMs: 100 };
    const byEvents = newState();
    expect(
      play(byEvents, timing, [
        [1000, 'breach', 5000],
        [1099, 'breach', 5001],
        [1100, 'breach', 5002],
      ]),
    ).toEqual([null, null, 'raise']);
    const byClock = newState();
    takeEvent(byClock, 1000, 'breach', timing, 5000);
    expect(takeTime(byClock, 5099)).toBe(null);
    expect(takeTime(byClock, 5100)).toBe('raise');
    expect(takeTime(byClock, 9999)).toBe(null);
  });

  it('clears only when it has been clear long enough and the flap window is over', () => {
    const timing = { ...PLAIN, clearForMs: 50, flapMs: 200 };
    const state = newState();
    expect(
      play(state, timing, [
        [1000, 'breach'],
        [1010, 'clear'],
        [1070, 'clear'],
        [1080, 'breach'],
      ]),
    ).toEqual(['raise', null, null, null]);
    expect(state.phase).toBe('firing');
    takeEvent(state, 1090, 'clear', timing, 1090);
    expect(state.dueAt).toBe(1200);
    expect(takeTime(state, 1200)).toBe('clear');
  });

  it('raises and clears in turn, whatever comes', () => {
    const verdicts = fc.constantFrom<Verdict>('breach', 'clear', 'between', 'silent');
    const timings = fc.record({
      forMs: fc.constantFrom(0, 5),
      times: fc.constantFrom(1, 2),
      clearForMs: fc.constantFrom(0, 5),
      flapMs: fc.constantFrom(0, 20),
    });
    fc.assert(
      fc.property(timings, fc.array(fc.tuple(fc.nat(50), verdicts, fc.boolean())), (timing, steps) => {
        const state = newState();
        const effects: string[] = [];
        let raisedAt = 0;
        steps.forEach(([ts, verdict, tick], now) => {
          const effect = tick ? takeTime(state, now) : takeEvent(state, ts, verdict, timing, now);
          if (effect === 'raise') raisedAt = now;
          if (effect === 'clear') expect(now - raisedAt).toBeGreaterThanOrEqual(timing.flapMs);
          if (effect) effects.push(effect);
        });
        effects.forEach((effect, n) => expect(effect).toBe(n % 2 === 0 ? 'raise' : 'clear'));
        expect(['firing', 'clearing'].includes(state.phase)).toBe(effects.length % 2 === 1);
      }),
    );
  });
});
