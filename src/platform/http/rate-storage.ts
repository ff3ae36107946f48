import type { OnApplicationShutdown } from '@nestjs/common';
import type { ThrottlerStorage } from '@nestjs/throttler';
import { Redis } from 'ioredis';
import { AppError } from '../errors/index.js';
import type { Logger } from '../observability/index.js';

/** A counter of allowed requests: `limit` in each window, or, with a burst, a token bucket. */
export interface Bucket {
  key: string;
  limit: number;
  windowMs: number;
  /** Makes it a token bucket of `limit + burst` that gets `limit` tokens a window. */
  burst?: number;
}

/** The state of a bucket after a request: `totalHits` are the counted requests, and times are in seconds. */
export type Hits = Awaited<ReturnType<ThrottlerStorage['increment']>>;

/** Counts requests, in memory or in Redis. It is the storage of @nestjs/throttler, so that its guards can use it too. */
export abstract class RateStorage implements ThrottlerStorage {
  /** Counts one request in all buckets, or in none when one of them has no room. @returns one result per bucket */
  abstract take(buckets: readonly Bucket[]): Promise<Hits[]>;

  /** @param ttl milliseconds of a window; one that is used up is not blocked beyond its end */
  async increment(key: string, ttl: number, limit: number): Promise<Hits> {
    const [hits] = await this.take([{ key, limit, windowMs: ttl }]);
    return hits;
  }
}

interface State {
  used: number;
  /** The start of the window, or the last update of a token bucket. */
  at: number;
}

/** Most buckets in memory. Beyond it the oldest are dropped. */
const MAX_BUCKETS = 100_000;
const COMMAND_TIMEOUT_MS = 500;
/** After Redis did not answer in time, it is not asked for this long. */
const REST_MS = 2000;

/** Buckets of this process. A bucket costs one map entry and two comparisons, because every ingest request is counted here. */
export class MemoryRateStorage extends RateStorage {
  private readonly states = new Map<string, State>();

  async take(buckets: readonly Bucket[]): Promise<Hits[]> {
    const now = Date.now();
    const states = buckets.map((bucket) => this.settle(bucket, now));
    const taken = buckets.every((bucket, n) => hasRoom(bucket, states[n].used));
    if (taken) for (const state of states) state.used++;
    return buckets.map((bucket, n) => hitsOf(bucket, states[n].used, now - states[n].at, taken));
  }

  private settle(bucket: Bucket, now: number): State {
    const { key, limit, windowMs, burst } = bucket;
    const known = this.states.get(key);
    if (known) {
      if (burst === undefined) {
        if (now < known.at + windowMs) return known;
      } else {
        known.used -= (Math.max(0, now - known.at) * limit) / windowMs;
        known.at = now;
        if (known.used > 0) return known;
      }
      // Inserted again at the end, so that the map stays ordered by the start of the buckets.
      this.states.delete(key);
    } else if (this.states.size >= MAX_BUCKETS) {
      this.states.delete(this.states.keys().next().value as string);
    }
    const state = { used: 0, at: now };
    this.states.set(key, state);
    return state;
  }
}

/** {@link MemoryRateStorage.take} as one atomic script for Redis. A burst of -1 means none. */
const TAKE = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local states, taken = {}, true
for i, key in ipairs(KEYS) do
  local limit, window, burst = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local known = redis.call('HMGET', key, 'used', 'at')
  local used, at = tonumber(known[1] or 0), tonumber(known[2] or now)
  local elapsed = math.max(0, now - at)
  if burst >= 0 then
    used, at = math.max(0, used - elapsed * limit / window), now
  elseif elapsed >= window then
    used, at = 0, now
  end
  states[i] = { used, at, window }
  if used + 1 > limit + math.max(0, burst) then taken = false end
end
local answer = { taken and 1 or 0 }
for i, key in ipairs(KEYS) do
  local used, at, window = unpack(states[i])
  if taken then
    used = used + 1
    redis.call('HSET', key, 'used', used, 'at', at)
    redis.call('PEXPIRE', key, 2 * window)
  end
  answer[2 * i], answer[2 * i + 1] = tostring(used), now - at
end
return answer`;

/**
 * Buckets shared by all processes. While Redis is unavailable, each process counts for itself (`failOpen`), or refuses requests
 * with 503 when the operator prefers that to a looser limit.
 */
export class RedisRateStorage extends RateStorage implements OnApplicationShutdown {
  private readonly redis: Redis;
  private readonly memory = new MemoryRateStorage();
  private away = false;
  /** Redis is not asked before this time (monotonic ms): while it hangs, each request would wait for its own timeout. */
  private restsUntil = 0;

  constructor(
    url: string,
    private readonly failOpen: boolean,
    private readonly logger: Logger,
  ) {
    super();
    this.redis = new Redis(url, {
      maxRetriesPerRequest: 0,
      enableOfflineQueue: false,
      commandTimeout: COMMAND_TIMEOUT_MS,
    });
    this.redis.on('error', () => undefined);
  }

  async take(buckets: readonly Bucket[]): Promise<Hits[]> {
    if (performance.now() < this.restsUntil) return this.takeAlone(buckets);
    try {
      const keys = buckets.map(({ key }) => `{nexus}:bucket:${key}`);
      const limits = buckets.flatMap(({ limit, windowMs, burst = -1 }) => [limit, windowMs, burst]);
      const [taken, ...states] = (await this.redis.eval(TAKE, keys.length, ...keys, ...limits)) as (number | string)[];
      if (this.away) this.logger.info('Rate limits are shared through Redis again');
      this.away = false;
      return buckets.map((bucket, n) => hitsOf(bucket, Number(states[2 * n]), Number(states[2 * n + 1]), taken === 1));
    } catch (error) {
      if (!this.away) this.logger.warn({ err: String(error) }, 'Rate limits cannot be shared: Redis is away');
      this.away = true;
      if (String(error).includes('timed out')) this.restsUntil = performance.now() + REST_MS;
      return this.takeAlone(buckets);
    }
  }

  private async takeAlone(buckets: readonly Bucket[]): Promise<Hits[]> {
    if (!this.failOpen) throw AppError.unavailable('Rate limits cannot be checked at the moment', 5);
    return this.memory.take(buckets);
  }

  onApplicationShutdown(): void {
    this.redis.disconnect();
  }
}

function hasRoom({ limit, burst = 0 }: Bucket, used: number): boolean {
  return used + 1 <= limit + burst;
}

/** @param elapsed milliseconds since the window began. @param taken whether the request was counted, here and elsewhere */
function hitsOf(bucket: Bucket, used: number, elapsed: number, taken: boolean): Hits {
  const { limit, windowMs, burst } = bucket;
  const isBlocked = !taken && !hasRoom(bucket, used);
  const untilFull = burst === undefined ? windowMs - elapsed : (used * windowMs) / limit;
  const untilNext = burst === undefined ? untilFull : ((used + 1 - limit - burst) * windowMs) / limit;
  return {
    totalHits: Math.ceil(used),
    timeToExpire: seconds(untilFull),
    isBlocked,
    timeToBlockExpire: isBlocked ? seconds(untilNext) : 0,
  };
}

function seconds(ms: number): number {
  return Math.max(1, Math.ceil(ms / 1000));
}
