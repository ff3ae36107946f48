import { describe, expect, it } from 'vitest';
import { loadSettings } from '../config/index.js';
import { BodyBudget } from './body-budget.js';

const MB = 1024 * 1024;

describe('The budget of request bodies', () => {
  it('leaves room to other networks, and half of it to callers with a credential', () => {
    const budget = new BodyBudget(loadSettings({}));
    const first = budget.open('192.0.2.1', true);
    expect([first.take(20 * MB), first.take(1)]).toEqual([true, false]);
    for (let n = 0; n < 7; n++) expect(budget.open(`2001:db8:${n}::1`, false).take(4 * MB)).toBe(true);
    expect(budget.open('2001:db8:0::ffff', false).take(1)).toBe(false);
    expect(budget.open('192.0.2.2', false).take(2 * MB + 1)).toBe(false);
    expect(budget.open('192.0.2.2', true).take(12 * MB + 1)).toBe(false);
    first.release();
    first.release();
    expect(budget.open('192.0.2.2', true).take(12 * MB + 1)).toBe(true);
    expect(first.take(1)).toBe(false);
  });

  it('is not kept by bodies of strangers that never end: the oldest makes room', () => {
    const budget = new BodyBudget(loadSettings({}));
    const cut: string[] = [];
    const arriving = (ip: string, bytes: number): boolean => {
      const share = budget.open(ip, false);
      share.arrives(() => cut.push(ip));
      return share.take(bytes);
    };
    const done = budget.open('192.0.2.99', false);
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
    const small = new BodyBudget(loadSettings({})).open('192.0.2.1', true);
    let taken = 0;
    while (taken < 1_000_000 && small.takeChunk(1)) taken++;
    expect(taken).toBeLessThan(21_000);
    const large = new BodyBudget(loadSettings({ NEXUS_BODY_LIMIT: String(100 * MB) })).open('192.0.2.1', true);
    expect(large.take(200 * MB)).toBe(true);
  });
});
