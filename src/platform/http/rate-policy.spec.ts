import http from 'node:http';
import type { IncomingMessage } from 'node:http';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Actor } from '../context/index.js';
import { clientIp, trustProxies } from './client-ip.js';
import { publicOrigin } from './public-origin.js';
import { layersOf, parseRate, rateKey, windowInWords } from './rate-policy.js';
import { type Bucket, type Hits, MemoryRateStorage } from './rate-storage.js';

const ALONE = new Set(['telemetry', 'anonymous']);

describe('rate policy', () => {
  it('reads settings and says windows in words', () => {
    expect(parseRate('1000/60')).toEqual({ limit: 1000, window: 60 });
    expect(parseRate('1000/60+100')).toEqual({ limit: 1000, window: 60, burst: 100 });
    expect(parseRate('off')).toBeNull();
    expect([60, 600, 3600, 90, 1, 7200].map(windowInWords)).toEqual([
      '1 minute',
      '10 minutes',
      '1 hour',
      '90 seconds',
      '1 second',
      '2 hours',
    ]);
  });

  it('counts the user, else the agent, else the key, else the address; logins always by address', () => {
    const actor = { id: 'x', credentialId: 'key_1' } as Actor;
    expect(rateKey('default', { ...actor, userId: 'u', agentId: 'a' }, '192.0.2.1')).toBe('default:u');
    expect(rateKey('default', { ...actor, agentId: 'a' }, '192.0.2.1')).toBe('default:a');
    expect(rateKey('default', actor, '192.0.2.1')).toBe('default:key_1');
    expect(rateKey('anonymous', undefined, '192.0.2.1')).toBe('anonymous:ip:192.0.2.1');
    expect(rateKey('auth', { ...actor, userId: 'u' }, '2001:db8::1:2:3')).toBe('auth:ip:2001:db8::/64');
  });

  it('counts what comes in at a high rate once, and everything else of a principal together too', () => {
    expect(layersOf('telemetry', ALONE)).toEqual(['telemetry']);
    expect(layersOf('anonymous', ALONE)).toEqual(['anonymous']);
    expect(layersOf('commands', ALONE)).toEqual(['commands', 'overall']);
    expect(layersOf('default', ALONE)).toEqual(['default', 'overall']);
  });
});

describe('buckets in memory', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['Date'] }));
  afterEach(() => void vi.useRealTimers());

  const bucket = (key: string, limit: number, burst?: number): Bucket => ({ key, limit, windowMs: 60_000, burst });
  const blocked = (hits: Hits[]): boolean[] => hits.map(({ isBlocked }) => isBlocked);

  it('start a new window when the old one is over', async () => {
    const storage = new MemoryRateStorage();
    const one = [bucket('k', 1)];
    expect(await storage.take(one)).toMatchObject([{ totalHits: 1, isBlocked: false, timeToExpire: 60 }]);
    vi.setSystemTime(Date.now() + 59_999);
    expect(await storage.take(one)).toMatchObject([{ totalHits: 1, isBlocked: true, timeToBlockExpire: 1 }]);
    vi.setSystemTime(Date.now() + 1);
    expect(await storage.take(one)).toMatchObject([{ totalHits: 1, isBlocked: false, timeToExpire: 60 }]);
  });

  it('with a burst give so many more at once, and then as many as the limit says', async () => {
    const storage = new MemoryRateStorage();
    const one = [bucket('k', 6, 3)];
    for (let n = 1; n <= 9; n++) expect(await storage.take(one)).toMatchObject([{ totalHits: n, isBlocked: false }]);
    expect(await storage.take(one)).toMatchObject([{ isBlocked: true, timeToBlockExpire: 10, timeToExpire: 90 }]);
    vi.setSystemTime(Date.now() + 10_000);
    expect(blocked(await storage.take(one))).toEqual([false]);
    expect(blocked(await storage.take(one))).toEqual([true]);
    vi.setSystemTime(Date.now() + 600_000);
    expect(await storage.take(one)).toMatchObject([{ totalHits: 1 }]);
  });

  it('count for guards of @nestjs/throttler, too', async () => {
    const storage = new MemoryRateStorage();
    expect(await storage.increment('k', 60_000, 1)).toMatchObject({ totalHits: 1, isBlocked: false, timeToExpire: 60 });
    expect(await storage.increment('k', 60_000, 1)).toMatchObject({ isBlocked: true, timeToBlockExpire: 60 });
  });

  it('take a request together or not at all', async () => {
    const storage = new MemoryRateStorage();
    const both = [bucket('tight', 2), bucket('wide', 5)];
    for (let n = 0; n < 4; n++) await storage.take(both);
    expect(await storage.take(both)).toMatchObject([
      { totalHits: 2, isBlocked: true },
      { totalHits: 2, isBlocked: false, timeToBlockExpire: 0 },
    ]);
  });

  it('are bounded in number', async () => {
    const storage = new MemoryRateStorage();
    for (let i = 0; i <= 100_000; i++) await storage.take([bucket(`k${i}`, 1)]);
    expect(blocked(await storage.take([bucket('k100000', 1)]))).toEqual([true]);
    expect(blocked(await storage.take([bucket('k0', 1)]))).toEqual([false]);
  });
});

describe('the address of a client', () => {
  const server = http.createServer();
  const seen = (peer: string, forwarded?: string): string =>
    clientIp({
      socket: { remoteAddress: peer, server },
      headers: forwarded === undefined ? {} : { 'x-forwarded-for': forwarded },
    } as unknown as IncomingMessage);

  it('is the last one that no trusted proxy has', () => {
    trustProxies(server, ['10.0.0.0/8', '::1']);
    expect(seen('10.0.0.1', '203.0.113.7')).toBe('203.0.113.7');
    expect(seen('::ffff:10.0.0.1', '203.0.113.7, 10.0.0.2')).toBe('203.0.113.7');
    expect(seen('::1', '2001:db8::7')).toBe('2001:db8::7');
  });

  it('is never what an untrusted peer claims', () => {
    expect(seen('203.0.113.9', '198.51.100.1')).toBe('203.0.113.9');
    expect(seen('10.0.0.1', '198.51.100.1, 203.0.113.9')).toBe('203.0.113.9');
    expect(seen('10.0.0.1', '198.51.100.1, nonsense')).toBe('10.0.0.1');
    expect(seen('10.0.0.1')).toBe('10.0.0.1');
    expect(seen('::ffff:203.0.113.9')).toBe('203.0.113.9');
  });
});

describe('the address of the server', () => {
  const server = http.createServer();
  const seen = (peer: string, headers: Record<string, string>): string =>
    publicOrigin({ socket: { remoteAddress: peer, server }, headers } as unknown as IncomingMessage);
  const forwarded = { host: 'inner:8000', 'x-forwarded-proto': 'https', 'x-forwarded-host': 'nexus.example' };

  it('is what a trusted proxy says, and its nearest word counts', () => {
    trustProxies(server, ['10.0.0.0/8']);
    expect(seen('10.0.0.1', forwarded)).toBe('https://nexus.example');
    expect(seen('10.0.0.1', { host: 'inner:8000' })).toBe('http://inner:8000');
    const several = { 'x-forwarded-proto': 'http, https', 'x-forwarded-host': 'evil.example, nexus.example' };
    expect(seen('10.0.0.1', several)).toBe('https://nexus.example');
    expect(seen('10.0.0.1', { host: 'inner', 'x-forwarded-proto': 'gopher' })).toBe('http://inner');
  });

  it('is what nobody else says, and never what a shell would take for more than an address', () => {
    expect(seen('203.0.113.9', forwarded)).toBe('http://inner:8000');
    for (const host of ['$(reboot)', 'a b', 'a:b:c', '']) {
      expect(seen('203.0.113.9', { host })).toBe('http://localhost');
    }
    expect(seen('10.0.0.1', { ...forwarded, 'x-forwarded-host': 'a;b' })).toBe('https://localhost');
  });
});
