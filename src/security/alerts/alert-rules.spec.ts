import { describe, expect, it } from 'vitest';
import { networkOf, powerfulScopes } from './alert-rules.js';

describe('the subject of an address', () => {
  it.each([
    ['203.0.113.7', '203.0.113.7'],
    ['::ffff:203.0.113.7', '203.0.113.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::9', '2001:db8:1:2::/64'],
    ['nonsense', 'unknown'],
    [undefined, 'unknown'],
  ])('%s is %s', (ip, subject) => {
    expect(networkOf(ip)).toBe(subject);
  });
});

it('tells scopes that change rights from the others', () => {
  expect(
    powerfulScopes([
      '*',
      'admin:*',
      '*:admin',
      'admin:config',
      'security:admin',
      'security:read',
      'user:write',
      'user:*',
    ]),
  ).toHaveLength(8);
  expect(powerfulScopes(['*:read', 'task:write', 'command:write@env=development', 'user:read', 'ai:*'])).toEqual([]);
});
