import type { OnApplicationShutdown } from '@nestjs/common';
import type { ThrottlerStorage } from '@nestjs/throttler';
import { Redis } from 'ioredis';
import { AppError } from '../errors/index.js';
import type { Logger } from '../observability/index.js';

type Hits = Awaited<ReturnType<ThrottlerStorage['increment']>>;

/** Principals counted at once; past it the windows that began first are forgotten. */
const MAX_WINDOWS = 100_000;

/** Fixed windows in this process. One map entry a principal and two comparisons a request: it stands on the ingest path. */
export class MemoryRateStorage implements ThrottlerStorage {
  private readonly windows = new Map<string, { hits: number; expiresAt: number }>();

  /** `ttl` in milliseconds; the times of the result in seconds. */
  async increment(key: string, ttl: number, limit: number): Promise<Hits> {
    const now = Date.now();
    let window = this.windows.get(key);
    if (!window || window.expiresAt <= now) {
      // Set anew at the end of the map, which so stays ordered by the beginning of the windows.
      this.windows.delete(key);
      if (this.windows.size >= MAX_WINDOWS) this.windows.delete(this.windows.keys().next().value as string);
      window = { hits: 0, expiresAt: now + ttl };
      this.windows.set(key, window);
    }
    window.hits++;
    return resultOf(window.hits, limit, window.expiresAt - now);
  }
}

/** Counts one request and starts the window with the first: one round trip, one step for Redis. */
const INCREMENT = `
local hits = redis.call('INCR', KEYS[1])
if hits == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
local left = redis.call('PTTL', KEYS[1])
if left < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[1]); left = tonumber(ARGV[1]) end
return { hits, left }`;

/**
 * Fixed windows shared by all processes. While Redis is away each process counts for itself (`failOpen`), or refuses with
 * 503 when the operator prefers that to a looser limit.
 */
export class RedisRateStorage implements ThrottlerStorage, OnApplicationShutdown {
  private readonly redis: Redis;
  private readonly memory = new MemoryRateStorage();
  private away = false;

  constructor(
    url: string,
    private readonly failOpen: boolean,
    private readonly logger: Logger,
  ) {
    this.redis = new Redis(url, { maxRetriesPerRequest: 0, enableOfflineQueue: false, commandTimeout: 500 });
    this.redis.on('error', () => undefined);
  }

  async increment(key: string, ttl: number, limit: number): Promise<Hits> {
    try {
      const [hits, left] = (await this.redis.eval(INCREMENT, 1, `{nexus}:rate:${key}`, ttl)) as [number, number];
      if (this.away) this.logger.info('Rate limits are shared through Redis again');
      this.away = false;
      return resultOf(hits, limit, left);
    } catch (error) {
      if (!this.away) this.logger.warn({ err: String(error) }, 'Rate limits cannot be shared: Redis is away');
      this.away = true;
      if (!this.failOpen) throw AppError.unavailable('Rate limits cannot be checked at the moment', 5);
      return this.memory.increment(key, ttl, limit);
    }
  }

  onApplicationShutdown(): void {
    this.redis.disconnect();
  }
}

function resultOf(totalHits: number, limit: number, leftMs: number): Hits {
  const timeToExpire = Math.max(1, Math.ceil(leftMs / 1000));
  const isBlocked = totalHits > limit;
  return { totalHits, timeToExpire, isBlocked, timeToBlockExpire: isBlocked ? timeToExpire : 0 };
}
