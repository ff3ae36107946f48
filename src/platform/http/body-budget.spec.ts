import { afterEach, describe, expect, it, vi } from 'vitest';
import { loadSettings, Settings } from '../config/index.js';

import { BodyBudget } from './body-budget.js';

const settings = (env: NodeJS.ProcessEnv): Settings => loadSettings(env, [Settings]).get(Settings);
const SETTINGS = settings({});
const MB = 1024 * 1024;

describe('The budget of request bodies', () => {
  afterEach(() => vi.useRealTimers());

  it('leaves room to other networks, and half of it to callers with a credential', () => {
    const budget = new BodyBudget(SETTINGS);
    const first = budget.open('192.0.2.1', 'user_a');
    expect([first.take(20 * MB), first.take(1)]).toEqual([true, false]);
    for (let n = 0; n < 7; n++) expect(budget.open(`2001:db8:${n}::1`, undefined).take(4 * MB)).toBe(true);
    expect(budget.open('2001:db8:0::ffff', undefined).take(1)).toBe(false);
    expect(budget.open('192.0.2.2', undefined).take(2 * MB + 1)).toBe(false);
    expect(budget.open('192.0.2.2', 'user_b').take(12 * MB + 1)).toBe(false);
    first.release();
    first.release();
    expect(budget.open('192.0.2.2', 'user_b').take(12 * MB + 1)).toBe(true);
    expect(first.take(1)).toBe(false);
  });

  it('is not kept by bodies of strangers that never end: the oldest makes room', () => {
    const budget = new BodyBudget(SETTINGS);
    const cut: string[] = [];
    const arriving = (ip: string, bytes: number): boolean => {
      const share = budget.open(ip, undefined);
      share.arrives(() => cut.push(ip));
      return share.take(bytes);
    };
    const done = budget.open('192.0.2.99', undefined);
    done.arrives(() => cut.push('done'));
    done.take(2 * MB);
    done.hasArrived();
    for (let n = 0; n < 7; n++) expect(arriving(`192.0.2.${n}`, 4 * MB)).toBe(true);
    expect(cut).toEqual([]);
    expect(arriving('198.51.100.1', 1)).toBe(true);
    expect(cut).toEqual(['192.0.2.0']);
    expect(arriving('192.0.2.3', 1)).toBe(true);
    expect(cut).toEqual(['192.0.2.0', '192.0.2.3']);
  });

  it('counts what tiny pieces cost, and grows with the largest body', () => {
    const small = new BodyBudget(SETTINGS).open('192.0.2.1', 'user_a');
    let taken = 0;
    while (taken < 1_000_000 && small.takeChunk(1)) taken++;
    expect(taken).toBeLessThan(21_000);
    const large = new BodyBudget(settings({ NEXUS_BODY_LIMIT: String(100 * MB) })).open('192.0.2.1', 'user_a');
    expect(large.take(200 * MB)).toBe(true);
  });

  it('lets one principal hold no more from many networks than from one', () => {
    const budget = new BodyBudget(SETTINGS);
    for (let n = 0; n < 2; n++) expect(budget.open(`192.0.2.${n}`, 'user_a').take(10 * MB)).toBe(true);
    expect(budget.open('192.0.2.3', 'user_a').take(1)).toBe(false);
    expect(budget.open('192.0.2.3', 'user_b').take(20 * MB)).toBe(true);
  });

  it.each([undefined, 'user_small'])('keeps room for small bodies of %s that large ones cannot take', (principal) => {
    const budget = new BodyBudget(SETTINGS);
    for (let n = 0; n < 3; n++) budget.open(`192.0.2.${n}`, `user_${n}`).take(20 * MB);
    const open = (length: number, coding?: string) =>
      budget.open('198.51.100.1', principal, { 'content-length': String(length), 'content-encoding': coding });
    expect(open(16_384).takeChunk(16_384)).toBe(true);
    expect(open(16_385).takeChunk(1)).toBe(false);
    expect(open(100, 'gzip').takeChunk(100)).toBe(false);
    // Tiny pieces cost more than they bring.
    const tiny = open(16_384);
    for (let n = 0; n < 31; n++) expect(tiny.takeChunk(1)).toBe(true);
    expect(tiny.takeChunk(1)).toBe(false);
    let taken = 0;
    while (taken < 1000 && open(16_384).take(32 * 1024)) taken++;
    expect(taken).toBe(498);
  });

  it('cuts a body that comes too slowly before any other, also for callers with a credential', () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    const budget = new BodyBudget(SETTINGS);
    const cut: string[] = [];
    for (const name of ['fast', 'slow', 'other']) {
      const share = budget.open('192.0.2.1', `user_${name}`);
      share.arrives(() => cut.push(name));
      share.takeChunk(name === 'slow' ? 1000 : 6 * MB);
    }
    const next = budget.open('192.0.2.1', 'user_next');
    expect(next.take(8 * MB - 2048)).toBe(false);
    vi.advanceTimersByTime(6000);
    expect(next.take(8 * MB - 2048)).toBe(true);
    expect(cut).toEqual(['slow']);
  });
});
