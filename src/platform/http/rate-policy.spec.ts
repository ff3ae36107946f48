import http from 'node:http';
import type { IncomingMessage } from 'node:http';
import { describe, expect, it } from 'vitest';
import type { Actor } from '../context/index.js';
import { clientIp, trustProxies } from './client-ip.js';
import { parseRate, rateKey, windowInWords } from './rate-policy.js';
import { MemoryRateStorage } from './rate-storage.js';

describe('rate policy', () => {
  it('reads settings and says windows in words', () => {
    expect(parseRate('1000/60')).toEqual({ limit: 1000, window: 60 });
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
    expect(rateKey('default', { ...actor, userId: 'u', agentId: 'a' }, 'ip')).toBe('default:u');
    expect(rateKey('default', { ...actor, agentId: 'a' }, 'ip')).toBe('default:a');
    expect(rateKey('default', actor, 'ip')).toBe('default:key_1');
    expect(rateKey('anonymous', undefined, 'ip')).toBe('anonymous:ip:ip');
    expect(rateKey('auth', { ...actor, userId: 'u' }, 'ip')).toBe('auth:ip:ip');
  });

  it('starts a new window when the old one is over', async () => {
    const storage = new MemoryRateStorage();
    expect(await storage.increment('k', 20, 1)).toMatchObject({ totalHits: 1, isBlocked: false });
    expect(await storage.increment('k', 20, 1)).toMatchObject({ totalHits: 2, isBlocked: true });
    await expect.poll(async () => (await storage.increment('k', 20, 1)).totalHits, { interval: 30 }).toBe(1);
  });

  it('holds a bounded number of windows', async () => {
    const storage = new MemoryRateStorage();
    for (let i = 0; i <= 100_000; i++) await storage.increment(`k${i}`, 60_000, 1);
    expect((await storage.increment('k100000', 60_000, 1)).totalHits).toBe(2);
    expect((await storage.increment('k0', 60_000, 1)).totalHits).toBe(1);
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
