import { describe, expect, it } from 'vitest';
import { ACCOUNT_WAITS, KNOWN_NETWORK_WAITS, NETWORK_WAITS } from './login-waits.js';

describe('the waits after failed logins', () => {
  it('grow for a network that never logged in', () => {
    expect(NETWORK_WAITS.map((seconds) => seconds / 60)).toEqual([0, 0, 0, 0, 15, 30, 60, 120, 240, 480, 960, 1440]);
  });

  it('are bounded for a network that has logged in', () => {
    expect(KNOWN_NETWORK_WAITS).toEqual([0, 0, 0, 0, 900]);
  });

  it('slow all other networks down together, by a quarter of an hour at most, and stop them at a hundred', () => {
    expect(ACCOUNT_WAITS).toHaveLength(100);
    expect(ACCOUNT_WAITS.slice(0, 19).every((seconds) => seconds === 0)).toBe(true);
    expect(ACCOUNT_WAITS.slice(19, 30)).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900]);
    expect(Math.max(...ACCOUNT_WAITS.slice(0, 99))).toBe(900);
    expect(ACCOUNT_WAITS[99]).toBe(86_400);
  });
});
