import { describe, expect, it } from 'vitest';
import { ConfigError } from '../config/index.js';
import { AddressPolicy, canonicalAddress } from './address-policy.js';

describe('public addresses', () => {
  const policy = new AddressPolicy([]);

  it.each([
    '0.0.0.0',
    '0.1.2.3',
    '10.0.0.1',
    '100.64.0.1',
    '100.100.100.200',
    '127.0.0.1',
    '127.255.255.254',
    '168.63.129.16',
    '169.254.169.254',
    '172.16.0.1',
    '172.31.255.255',
    '192.0.0.192',
    '192.0.2.1',
    '192.88.99.1',
    '192.168.1.1',
    '198.18.0.1',
    '198.51.100.1',
    '203.0.113.1',
    '224.0.0.1',
    '239.255.255.255',
    '240.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    '::127.0.0.1',
    '::8.8.8.8',
    '::ffff:127.0.0.1',
    '::ffff:10.0.0.1',
    '::ffff:7f00:1',
    '::ffff:0:127.0.0.1',
    '64:ff9b::7f00:1',
    '64:ff9b::8.8.8.8',
    '64:ff9b:1::1',
    '100::1',
    '2001::1',
    '2001:db8::1',
    '2002:7f00:1::',
    '2002:0808:0808::',
    '3fff::1',
    '5f00::1',
    'fc00::1',
    'fd00:ec2::254',
    'fe80::1',
    'fe80::1%eth0',
    'fec0::1',
    'ff02::1',
    '4000::1',
    '',
    'localhost',
    '8.8.8',
    '010.8.8.8',
    '0x8.8.8.8',
    '134744072',
    '2606:4700::1111%1',
  ])('do not include %s', (address) => {
    expect(policy.isPublic(address)).toBe(false);
  });

  it.each([
    '8.8.8.8',
    '1.1.1.1',
    '93.184.216.34',
    '172.32.0.1',
    '100.128.0.1',
    '::ffff:8.8.8.8',
    '2606:4700:4700::1111',
    '2a00:1450::1',
  ])('include %s', (address) => {
    expect(policy.isPublic(address)).toBe(true);
  });
});

describe('the allow-list', () => {
  const policy = new AddressPolicy([
    '127.0.0.0/8',
    '10.1.2.3',
    '10.9.9.9:8443',
    '[fd00::1]:81',
    'fd12::/16',
    'Hooks.Internal',
    'queue:9000',
  ]);

  it('lists addresses and ranges, each with its port', () => {
    const listed = (address: string, port = 443): boolean => policy.listsAddress(address, port);
    expect([listed('127.9.9.9'), listed('::ffff:127.0.0.1'), listed('10.1.2.3', 1), listed('fd12::5')]).toEqual([
      true,
      true,
      true,
      true,
    ]);
    expect([listed('10.9.9.9', 8443), listed('fd00::1', 81)]).toEqual([true, true]);
    expect([
      listed('10.9.9.9'),
      listed('fd00::1'),
      listed('10.1.2.4'),
      listed('128.0.0.1'),
      listed('::1'),
      listed('nonsense'),
    ]).not.toContain(true);
  });

  it('lists names exactly', () => {
    expect(policy.listsHost('hooks.internal', 1)).toBe(true);
    expect(policy.listsHost('queue', 9000)).toBe(true);
    expect(policy.listsHost('queue', 9001)).toBe(false);
    expect(policy.listsHost('x.hooks.internal', 1)).toBe(false);
  });

  it('refuses what it cannot read by its place alone', () => {
    for (const bad of [
      '',
      '*',
      '*.internal',
      '10.0.0.0/33',
      'host:0',
      'host:99999',
      'http://host',
      'a b',
      '10.0.0',
      '1.2.3.4.5',
      '[::1',
      'host:port',
    ]) {
      expect(() => new AddressPolicy(['fine', bad])).toThrow(
        new ConfigError('NEXUS_EGRESS_ALLOW: entry 2 is no host name, host:port, address or CIDR'),
      );
    }
  });
});

describe('canonicalAddress', () => {
  it('gives one spelling per address', () => {
    expect(canonicalAddress('::ffff:7f00:1')).toBe('127.0.0.1');
    expect(canonicalAddress('2606:4700::0:1')).toBe(canonicalAddress('2606:4700:0:0:0:0:0:1'));
    expect(canonicalAddress('localhost')).toBeNull();
  });
});
