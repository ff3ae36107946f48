import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Cache } from '../../src/platform/cache/cache.js';
import { Caches } from '../../src/platform/cache/caches.js';
import { SharedCache } from '../../src/platform/cache/shared-cache.js';
import { Metrics } from '../../src/platform/observability/index.js';
import { Bus } from '../../src/platform/realtime/index.js';
import { RedisTransport } from '../../src/platform/realtime/bus-transports.js';
import { eventually } from '../support/eventually.js';
import { RedisServer, redisInstalled } from '../support/redis.js';
import { silent } from './harness.js';

const OPTIONS = { ttlMs: 60_000, max: 3 };
const hooks = { asked: () => undefined, dropped: () => undefined };

/** A source that can be held, and that counts how often it was read. */
class Source {
  reads = 0;
  value = 1;
  private held: Promise<void> = Promise.resolve();

  hold(): () => void {
    let release = (): void => undefined;
    this.held = new Promise((resolve) => (release = resolve));
    return release;
  }

  readonly load = async (): Promise<number> => {
    this.reads++;
    const { value } = this;
    await this.held;
    return value;
  };
}

describe('a cache in memory', () => {
  const make = (options = OPTIONS): Cache<number> => new Cache('test', options, null, hooks);

  it('makes a value once for all who ask at the same time, and remembers it', async () => {
    const [cache, source] = [make(), new Source()];
    const release = source.hold();
    const asked = Array.from({ length: 20 }, () => cache.get('a', source.load));
    release();
    expect(await Promise.all(asked)).toEqual(Array(20).fill(1));
    expect(await cache.get('a', source.load)).toBe(1);
    expect(source.reads).toBe(1);
  });

  it('does not remember a failure', async () => {
    const cache = make();
    await expect(cache.get('a', () => Promise.reject(new Error('away')))).rejects.toThrow('away');
    expect(await cache.get('a', () => Promise.resolve(2))).toBe(2);
  });

  it('makes a value again when it is too old, or pushed out by others', async () => {
    const [cache, source] = [make({ ttlMs: 20, max: 3 }), new Source()];
    await cache.get('a', source.load);
    await eventually(async () => {
      await cache.get('a', source.load);
      return source.reads === 2;
    });
    for (const key of ['b', 'c', 'd']) await cache.get(key, source.load);
    expect(cache.size).toBeLessThanOrEqual(3);
  });

  it('drops by tag, or everything', async () => {
    const [cache, source] = [make(), new Source()];
    const ask = async (): Promise<void> => {
      await cache.get('a', source.load, ['red']);
      await cache.get('b', source.load, ['blue']);
    };
    await ask();
    await cache.drop(['red']);
    await ask();
    expect(source.reads).toBe(3);
    await cache.drop();
    await ask();
    expect(source.reads).toBe(5);
  });

  it('does not keep what was being made while it was dropped', async () => {
    const [cache, source] = [make(), new Source()];
    const release = source.hold();
    const old = cache.get('a', source.load, ['red']);
    await eventually(() => source.reads === 1);
    source.value = 2;
    await cache.drop(['red']);
    const fresh = cache.get('a', source.load, ['red']);
    release();
    expect(await old).toBe(1);
    expect(await fresh).toBe(2);
    expect(await cache.get('a', source.load, ['red'])).toBe(2);
    expect(source.reads).toBe(2);
  });
});

describe.skipIf(!redisInstalled)('a cache of two processes with Redis', () => {
  let redis: RedisServer;
  const ends: (() => Promise<void> | void)[] = [];
  beforeAll(async () => {
    redis = await RedisServer.start();
  });
  afterEach(async () => {
    for (const end of ends.splice(0)) await end();
  });
  afterAll(() => redis.stop());

  /** The caches of one process, and one among them. */
  async function process(name: string): Promise<{ cache: Cache<number>; metrics: Metrics }> {
    const bus = new Bus(new RedisTransport(redis.url, silent), silent);
    await bus.start();
    const metrics = new Metrics();
    const caches = new Caches(bus, new SharedCache(redis.url, silent), metrics);
    ends.push(
      () => caches.onApplicationShutdown(),
      () => bus.stop(),
    );
    const cache = caches.make<number>(name, OPTIONS);
    const warm = new Source();
    // The connection is made at the first use.
    await eventually(async () => {
      await cache.get(randomBytes(4).toString('hex'), warm.load);
      const text = (await metrics.render(false)).text;
      return warm.reads > 0 && text.includes('result="loaded"');
    });
    return { cache, metrics };
  }

  it('finds what the other has made, and drops it in both', async () => {
    const [one, two] = [await process('shared'), await process('shared')];
    const source = new Source();
    await eventually(async () => {
      const key = randomBytes(4).toString('hex');
      const before = source.reads;
      await one.cache.get(key, source.load, ['red']);
      await two.cache.get(key, source.load, ['red']);
      return source.reads === before + 1;
    });
    await one.cache.get('a', source.load, ['red']);
    await two.cache.get('a', source.load, ['red']);
    source.value = 2;
    await one.cache.drop(['red']);
    expect(await one.cache.get('a', source.load, ['red'])).toBe(2);
    await eventually(async () => (await two.cache.get('a', source.load, ['red'])) === 2);
    expect((await two.metrics.render(false)).text).toMatch(
      /nexus_cache_requests_total\{cache="shared",result="shared"\} \d/,
    );
  });

  it('never shares what was made of old data', async () => {
    const [one, two] = [await process('race'), await process('race')];
    const source = new Source();
    const release = source.hold();
    const old = one.cache.get('a', source.load, ['red']);
    await eventually(() => source.reads === 1);
    source.value = 2;
    // Straight to the shared level, as if the message to the first process were lost.
    const other = new SharedCache(redis.url, silent);
    ends.push(() => other.stop());
    await eventually(async () => (await other.read('race', 'a', [])) !== null);
    await other.outdate('race', ['red']);
    release();
    expect(await old).toBe(1);
    expect(await two.cache.get('a', source.load, ['red'])).toBe(2);
  });

  it('goes on without the shared level while Redis is away', async () => {
    const own = await RedisServer.start();
    const shared = new SharedCache(own.url, silent);
    ends.push(() => shared.stop());
    const cache = new Cache<number>('lonely', OPTIONS, shared, hooks);
    const source = new Source();
    expect(await cache.get('a', source.load)).toBe(1);
    await own.stop();
    await cache.drop();
    source.value = 2;
    expect(await cache.get('a', source.load)).toBe(2);
  });
});
