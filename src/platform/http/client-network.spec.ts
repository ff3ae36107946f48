import { describe, expect, it } from 'vitest';
import { networkOf } from './client-network.js';

describe('the network an address counts for', () => {
  it.each([
    ['203.0.113.7', '203.0.113.7'],
    ['::ffff:203.0.113.7', '203.0.113.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::9', '2001:db8:1:2::/64'],
    ['2001:db8:1:3::9', '2001:db8:1:3::/64'],
    ['nonsense', 'unknown'],
    [undefined, 'unknown'],
  ])('of %s is %s', (ip, network) => {
    expect(networkOf(ip)).toBe(network);
  });

  it('groups IPv4 addresses where that is asked for', () => {
    expect(networkOf('203.0.113.7', 24)).toBe('203.0.113.0/24');
    expect(networkOf('::ffff:203.0.113.200', 24)).toBe('203.0.113.0/24');
    expect(networkOf('2001:db8:1:2::9', 24)).toBe('2001:db8:1:2::/64');
  });
});
