import { describe, expect, it } from 'vitest';
import { loadSettings } from '../config/index.js';
import { BodyBudget } from './body-budget.js';

const MB = 1024 * 1024;

describe('The budget of request bodies', () => {
  it('leaves room to other networks, and half of it to callers with a credential', () => {
    const budget = new BodyBudget(loadSettings({}));
    const first = budget.open('192.0.2.1', false);
    expect([first.take(20 * MB), first.take(1)]).toEqual([true, false]);
    expect(budget.open('2001:db8::1', false).take(10 * MB)).toBe(true);
    expect(budget.open('192.0.2.2', false).take(1)).toBe(false);
    expect(budget.open('192.0.2.2', true).take(20 * MB)).toBe(true);
    expect(budget.open('2001:db8::ffff', true).take(10 * MB + 1)).toBe(false);
    expect(budget.open('192.0.2.3', true).take(10 * MB + 1)).toBe(false);
    first.release();
    first.release();
    expect(budget.open('192.0.2.3', true).take(10 * MB + 1)).toBe(true);
    expect(first.take(1)).toBe(false);
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
