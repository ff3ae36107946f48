import { Controller, Get, Post, Query } from '@nestjs/common';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { AppError } from '../../src/platform/errors/index.js';
import { Allow, LeanRoutes, Public, RateLimit, Wire } from '../../src/platform/http/index.js';
import {
  type Bucket,
  MemoryRateStorage,
  type RateStorage,
  RedisRateStorage,
} from '../../src/platform/http/rate-storage.js';
import { Logger, Metrics } from '../../src/platform/observability/index.js';
import { redisInstalled, RedisServer } from '../support/redis.js';
import { type Harness, startHarness } from './harness.js';

@Wire('raw')
@Controller('limited')
class LimitedController {
  @Get() @Allow() any(): object {
    return {};
  }
  @Get('commands') @RateLimit('commands') @Allow() commands(): object {
    return {};
  }
  @Get('batch') @RateLimit('telemetry_batch') @Allow() batch(): object {
    return {};
  }
  @Get('status') @RateLimit('polling') @Allow() status(): object {
    return {};
  }
  @Post('broken') @Allow() broken(@Query('how') how: string): Promise<object> {
    if (how === 'busy') throw AppError.unavailable('Try again shortly');
    if (how === 'defect') throw new Error('A defect');
    return how === 'slow' ? new Promise(() => undefined) : Promise.resolve({});
  }
  @Get('webhooks') @RateLimit('webhooks') @Allow() webhooks(): object {
    return {};
  }
  @Get('scoped') @Allow('rare:scope') scoped(): object {
    return {};
  }
  @Get('open') @Public() open(): object {
    return {};
  }
  @Post('login') @RateLimit('auth') @Public() login(): object {
    return {};
  }
}

const SMALL = {
  NEXUS_RATE_LIMITS: 'on',
  NEXUS_RATE_LIMIT_DEFAULT: '5/60',
  NEXUS_RATE_LIMIT_COMMANDS: '2/60',
  NEXUS_RATE_LIMIT_POLLING: '8/60',
  NEXUS_RATE_LIMIT_AGENTS: '6/60',
  NEXUS_RATE_LIMIT_OVERALL: '9/600+3',
  NEXUS_RATE_LIMIT_WEBHOOKS: 'off',
  NEXUS_RATE_LIMIT_AUTH: '3/600',
  NEXUS_RATE_LIMIT_ANONYMOUS: '4/3600',
  NEXUS_RATE_LIMIT_REFUSED: '3/300',
  NEXUS_RATE_LIMIT_TELEMETRY: '2/60',
  NEXUS_RATE_LIMIT_TELEMETRY_BATCH: '1/60',
  NEXUS_TRUSTED_PROXIES: '127.0.0.0/8',
  NEXUS_METRICS_PUBLIC: 'false',
  NEXUS_DOCS_PUBLIC: 'false',
  NEXUS_HEALTH_PUBLIC: 'false',
  NEXUS_REQUEST_TIMEOUT: '1',
  NEXUS_BODY_LIMIT: '100000',
};

describe('rate limits', () => {
  let server: Harness;
  beforeAll(async () => {
    server = await startHarness([LimitedController], SMALL);
    server.app.get(LeanRoutes).register({
      path: '/limited/lean',
      anyOf: ['lean:write'],
      audit: 'minute',
      rateLimit: 'telemetry',
      limits: { maxDepth: 8, maxKeys: 100, maxValues: 1000, maxKeyLength: 64 },
      handle: async () => ({ status: 202, body: {} }),
    });
  });
  afterAll(() => server.stop());

  /** Each test calls from an address of its own, as seen through a trusted proxy. */
  const call = async (ip: string, path: string, who?: string, method = 'GET', body?: string) => {
    const response = await fetch(`${server.url}/api/v1/limited${path}`, {
      method,
      body,
      headers: {
        'x-forwarded-for': ip,
        ...(who ? { authorization: `Bearer ${who}` } : {}),
        ...(body ? { 'content-type': 'application/json' } : {}),
      },
    });
    const json = (await response.json()) as { error?: Record<string, unknown> };
    const header = (name: string) => Number(response.headers.get(`x-ratelimit-${name}`) ?? NaN);
    return { status: response.status, headers: response.headers, error: json.error, header };
  };

  it('counts a principal whatever address it calls from, and says so in every answer', async () => {
    const first = await call('10.0.0.1', '', 'ann');
    expect(first.status).toBe(200);
    expect([first.header('limit'), first.header('remaining'), first.header('window')]).toEqual([5, 4, 60]);
    const reset = first.header('reset') - Date.now() / 1000;
    expect(reset).toBeGreaterThan(50);
    expect(reset).toBeLessThanOrEqual(61);
    for (let i = 0; i < 3; i++) await call(`10.0.0.${i}`, '', 'ann');
    const refused = await call('10.0.0.9', '/scoped', 'ann/other:scope');
    expect([refused.status, refused.header('remaining')]).toEqual([403, 0]);
    const over = await call('10.0.0.9', '', 'ann');
    expect(over.status).toBe(429);
    expect(over.error).toMatchObject({ code: 'RATE_LIMIT_EXCEEDED', limit: 5, window: '1 minute' });
    expect(Number(over.headers.get('retry-after'))).toBe(over.error?.retry_after);
    expect(over.error?.retry_after).toBeGreaterThan(0);
    expect((await call('10.0.0.9', '', 'bob')).status).toBe(200);
  });

  it('counts categories apart; off means no limit', async () => {
    const seen = [];
    for (let i = 0; i < 3; i++) seen.push((await call('10.1.0.1', '/commands', 'cat')).status);
    expect(seen).toEqual([200, 200, 429]);
    for (let i = 0; i < 8; i++) expect((await call('10.1.0.1', '/webhooks', 'cat')).status).toBe(200);
    expect((await call('10.1.0.1', '', 'cat')).status).toBe(200);
  });

  it('counts polling, and whatever an agent asks for, in limits of their own', async () => {
    const limits = async (path: string, who: string) => (await call('10.7.0.1', path, who)).header('limit');
    expect(await limits('', 'gus')).toBe(5);
    expect(await limits('/status', 'gus')).toBe(8);
    expect(await limits('', 'agent-1')).toBe(6);
    expect(await limits('/status', 'agent-1')).toBe(6);
    for (let i = 0; i < 4; i++) expect((await call('10.7.0.1', '', 'agent-1')).status).toBe(200);
    expect((await call('10.7.0.1', '', 'agent-1')).error).toMatchObject({ details: { category: 'agents' } });
    expect((await call('10.7.0.1', '', 'agent-2')).status).toBe(200);
    expect((await call('10.7.0.1', '/commands', 'agent-1')).header('limit')).toBe(2);
  });

  it('tells the limit with every error that comes after it', async () => {
    const large = JSON.stringify({ text: 'x'.repeat(200_000) });
    for (const [path, body, status] of [
      ['/broken?how=busy', undefined, 503],
      ['/broken?how=defect', undefined, 500],
      ['/broken?how=slow', undefined, 504],
      ['/broken', large, 413],
      ['/broken', '{bad', 400],
      ['/lean', large, 413],
    ] as const) {
      const who = `hal${status}${path.length}`;
      const answer = await call('10.8.0.1', path, path === '/lean' ? `${who}/lean:write` : who, 'POST', body);
      expect([path, answer.status]).toEqual([path, status]);
      for (const name of ['limit', 'remaining', 'reset', 'window']) {
        expect(answer.header(name)).toBeGreaterThanOrEqual(0);
      }
    }
  });

  it('counts wrong credentials that are sent to closed metrics, documents and health', async () => {
    const ask = (path: string, who: string): Promise<Response> =>
      fetch(`${server.url}${path}`, {
        headers: { 'x-forwarded-for': '10.9.0.1', authorization: `Bearer ${who}` },
      });
    expect((await ask('/metrics', 'ivy')).status).toBe(200);
    const seen: number[] = [];
    for (const path of ['/metrics', '/docs', '/health/detailed', '/openapi.json']) {
      seen.push((await ask(path, 'bad')).status);
    }
    expect(seen).toEqual([401, 401, 401, 429]);
    const after = await ask('/metrics', 'bad');
    expect([after.status, after.headers.get('x-ratelimit-limit')]).toEqual([429, '3']);
    expect((await ask('/metrics', 'ivy')).status).toBe(429);
    expect((await ask('/health', 'bad')).status).toBe(200);
  });

  it('counts all that a principal does together as well, with a burst; the tightest limit is told', async () => {
    const told = async (path: string) => {
      const { status, header, error } = await call('10.6.0.1', path, 'fay');
      return [
        status,
        header('limit'),
        header('remaining'),
        (error?.details as { category: string } | undefined)?.category,
      ];
    };
    expect(await told('/commands')).toEqual([200, 2, 1, undefined]);
    // Twelve at once: three more than the limit says.
    for (const left of [9, 9, 8, 7, 6, 5, 4, 3]) expect(await told('/webhooks')).toEqual([200, 9, left, undefined]);
    expect(await told('')).toEqual([200, 9, 2, undefined]);
    expect(await told('/commands')).toEqual([200, 2, 0, undefined]);
    expect(await told('/commands')).toEqual([429, 2, 0, 'commands']);
    expect(await told('/webhooks')).toEqual([200, 9, 0, undefined]);
    expect(await told('')).toEqual([429, 9, 0, 'overall']);
    const over = await call('10.6.0.1', '/webhooks', 'fay');
    expect(over.error).toMatchObject({ limit: 9, window: '10 minutes' });
    // Nine in ten minutes: the next is let through after a good minute, not after ten.
    expect(Number(over.headers.get('retry-after'))).toBeLessThan(70);
  });

  it('counts strangers by address: unknown routes, open routes and missing credentials alike', async () => {
    const seen = [];
    for (const path of ['/open', '/nothing', '', '/open', '/open', '/nothing']) {
      seen.push((await call('10.2.0.1', path)).status);
    }
    expect(seen).toEqual([200, 404, 401, 200, 429, 429]);
    expect((await call('10.2.0.2', '/open')).status).toBe(200);
    const unknown = await call('10.2.0.3', '/nothing');
    expect([unknown.header('limit'), unknown.header('window')]).toEqual([4, 3600]);
  });

  it('stops looking at credentials of an address that keeps guessing', async () => {
    const seen = [];
    for (let i = 0; i < 5; i++) seen.push((await call('10.3.0.1', '', `bad${i}`)).status);
    expect(seen).toEqual([401, 401, 401, 429, 429]);
    const blocked = await call('10.3.0.1', '', 'dora');
    expect([blocked.status, blocked.header('limit'), blocked.header('remaining')]).toEqual([429, 3, 0]);
    expect(blocked.header('window')).toBe(300);
    expect(blocked.header('reset')).toBeGreaterThan(Date.now() / 1000);
    const lean = await call('10.3.0.1', '/lean', 'dora', 'POST', '{}');
    expect([lean.status, lean.header('limit'), lean.header('remaining')]).toEqual([429, 3, 0]);
    expect((await call('10.3.0.2', '', 'dora')).status).toBe(200);
  });

  it('counts all addresses of an IPv6 /64 as one, wherever an address counts', async () => {
    const seen = [];
    for (let i = 0; i < 4; i++) seen.push((await call(`2001:db8:0:1::${i}`, '/login', undefined, 'POST')).status);
    expect(seen).toEqual([201, 201, 201, 429]);
    expect((await call('2001:db8:0:2::1', '/login', undefined, 'POST')).status).toBe(201);
    const strangers = [];
    for (let i = 0; i < 5; i++) strangers.push((await call(`2001:db8:0:3:${i}::`, '/open')).status);
    expect(strangers).toEqual([200, 200, 200, 200, 429]);
    const guesses = [];
    for (let i = 0; i < 5; i++) guesses.push((await call(`2001:db8:0:4::${i}`, '', `bad${i}`)).status);
    expect(guesses).toEqual([401, 401, 401, 429, 429]);
    expect((await call('2001:db8:0:4::99', '', 'gil')).status).toBe(429);
    expect((await call('2001:db8:0:5::1', '', 'gil')).status).toBe(200);
  });

  it('limits batches of telemetry apart from single events', async () => {
    const batches = [await call('10.8.0.1', '/batch', 'hal'), await call('10.8.0.1', '/batch', 'hal')];
    expect(batches.map(({ status }) => status)).toEqual([200, 429]);
    expect(batches[1].error).toMatchObject({ limit: 1, details: { category: 'telemetry_batch' } });
    expect((await call('10.8.0.1', '/lean', 'hal', 'POST', '{}')).status).toBe(202);
  });

  it('limits logins by address', async () => {
    const seen = [];
    for (let i = 0; i < 4; i++) seen.push((await call('10.4.0.1', '/login', undefined, 'POST')).status);
    expect(seen).toEqual([201, 201, 201, 429]);
  });

  it('is the same on lean routes', async () => {
    const seen = [];
    for (let i = 0; i < 3; i++) {
      const { status, header } = await call('10.5.0.1', '/lean', 'eve', 'POST', '{"a":1}');
      seen.push([status, header('limit'), header('remaining')]);
    }
    expect(seen).toEqual([
      [202, 2, 1],
      [202, 2, 0],
      [429, 2, 0],
    ]);
    const guesses = [];
    for (let i = 0; i < 4; i++) guesses.push((await call('10.5.0.2', '/lean', 'bad', 'POST', '{}')).status);
    expect(guesses).toEqual([401, 401, 401, 429]);
  });

  it('leaves probes alone and counts what it refuses', async () => {
    for (let i = 0; i < 8; i++) {
      const response = await fetch(`${server.url}/health`);
      expect([response.status, response.headers.get('x-ratelimit-limit')]).toEqual([200, null]);
    }
    const { text } = await server.app.get(Metrics).render(false);
    expect(text).toMatch(/nexus_rate_limit_hits_total\{category="commands"\} [1-9]/);
    expect(text).toMatch(/nexus_rate_limit_hits_total\{category="refused"\} ([3-9]|\d\d)/);
  });
});

describe('without trusted proxies', () => {
  it('does not believe X-Forwarded-For, and off means no limits and no headers', async () => {
    const server = await startHarness([LimitedController], { ...SMALL, NEXUS_TRUSTED_PROXIES: '' });
    const free = await startHarness([LimitedController], { ...SMALL, NEXUS_RATE_LIMITS: 'off' });
    try {
      const open = (base: Harness, i: number) =>
        fetch(`${base.url}/api/v1/limited/open`, { headers: { 'x-forwarded-for': `10.0.0.${i}` } });
      const seen = [];
      for (let i = 0; i < 6; i++) seen.push((await open(server, i)).status);
      expect(seen).toEqual([200, 200, 200, 200, 429, 429]);
      for (let i = 0; i < 6; i++) {
        const response = await open(free, 1);
        expect([response.status, response.headers.get('x-ratelimit-limit')]).toEqual([200, null]);
      }
    } finally {
      await Promise.all([server.stop(), free.stop()]);
    }
  });
});

describe.skipIf(!redisInstalled)('limits shared through Redis (needs redis-server)', () => {
  const bucket = (key: string, limit: number, burst?: number): Bucket => ({ key, limit, windowMs: 60_000, burst });

  it('count for all processes, for each alone while Redis is away, or refuse when told to', async () => {
    let redis = await RedisServer.start();
    const { url, port } = redis;
    const logger = new Logger('silent');
    const [one, two, strict] = [true, true, false].map((open) => new RedisRateStorage(url, open, logger));
    const hits = async (storage: RedisRateStorage, key: string, limit: number) =>
      (await storage.take([bucket(key, limit)]))[0];
    try {
      const ready = (storage: RedisRateStorage) => vi.waitFor(() => hits(storage, 'warm', 1000), 5000);
      await ready(strict);
      // A store whose connection is not up yet counts alone: wait until both see each other.
      await vi.waitFor(async () => {
        expect((await hits(one, 'both', 99)).totalHits).toBeGreaterThan(1);
        expect((await hits(two, 'both', 99)).totalHits).toBeGreaterThan(2);
      }, 5000);
      expect(await hits(one, 'k', 2)).toMatchObject({ totalHits: 1, timeToExpire: 60 });
      expect((await hits(two, 'k', 2)).isBlocked).toBe(false);
      expect(await hits(strict, 'k', 2)).toMatchObject({ totalHits: 2, isBlocked: true });
      await redis.stop();
      await vi.waitFor(async () => expect((await hits(one, 'k', 99)).totalHits).toBeLessThan(4), 5000);
      await expect(strict.take([bucket('k', 2)])).rejects.toMatchObject({ kind: 'unavailable' });
      redis = await RedisServer.start(port);
      await ready(strict);
    } finally {
      for (const storage of [one, two, strict]) storage.onApplicationShutdown();
      await redis.stop();
    }
  });

  it('let requests through while Redis is away, or answer 503, as NEXUS_RATE_LIMIT_FAIL_OPEN says', async () => {
    let redis = await RedisServer.start();
    const env = { NEXUS_RATE_LIMITS: 'on', NEXUS_RATE_LIMIT_DEFAULT: '100/60', REDIS_URL: redis.url };
    const servers: Harness[] = [];
    const status = async (server: Harness): Promise<number> =>
      (await fetch(`${server.url}/api/v1/limited`, { headers: { authorization: 'Bearer ida' } })).status;
    try {
      for (const open of ['true', 'false']) {
        servers.push(await startHarness([LimitedController], { ...env, NEXUS_RATE_LIMIT_FAIL_OPEN: open }));
      }
      for (const server of servers) await vi.waitFor(async () => expect(await status(server)).toBe(200), 10_000);
      await redis.stop();
      await vi.waitFor(async () => expect(await Promise.all(servers.map(status))).toEqual([200, 503]), 10_000);
    } finally {
      redis = await RedisServer.start(redis.port);
      for (const server of servers) await server.stop();
      await redis.stop();
    }
  });

  it('wait for a Redis that hangs once, not with each request', async () => {
    const redis = await RedisServer.start();
    const storage = new RedisRateStorage(redis.url, true, new Logger('silent'));
    try {
      await vi.waitFor(
        async () => expect((await storage.take([bucket('k', 99)]))[0].totalHits).toBeGreaterThan(1),
        5000,
      );
      redis.signal('SIGSTOP');
      const started = performance.now();
      for (let n = 0; n < 8; n++) await storage.take([bucket('k', 99)]);
      expect(performance.now() - started).toBeLessThan(2000);
      redis.signal('SIGCONT');
      await vi.waitFor(
        async () => expect((await storage.take([bucket('k', 99)]))[0].totalHits).toBeGreaterThan(8),
        10_000,
      );
    } finally {
      redis.signal('SIGCONT');
      storage.onApplicationShutdown();
      await redis.stop();
    }
  });

  it('say the same as those in memory', async () => {
    const redis = await RedisServer.start();
    const shared = new RedisRateStorage(redis.url, false, new Logger('silent'));
    const memory = new MemoryRateStorage();
    const steps = [
      [bucket('window', 3), bucket('burst', 2, 4)],
      [bucket('burst', 2, 4)],
      [bucket('burst', 2, 4)],
      [bucket('window', 3), bucket('burst', 2, 4)],
      [bucket('burst', 2, 4)],
      [bucket('window', 3), bucket('burst', 2, 4)],
      [bucket('window', 3), bucket('burst', 2, 4)],
      [bucket('window', 3)],
      [bucket('window', 3)],
    ];
    const counts = async (storage: RateStorage, n: number) =>
      (await storage.take(steps[n])).map(({ totalHits, isBlocked }) => ({ totalHits, isBlocked }));
    try {
      await vi.waitFor(() => shared.take([bucket('warm', 1000)]), 5000);
      for (const n of steps.keys()) expect(await counts(shared, n)).toEqual(await counts(memory, n));
    } finally {
      shared.onApplicationShutdown();
      await redis.stop();
    }
  });
});
