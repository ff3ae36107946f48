import { type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import { Injectable } from '@nestjs/common';
import { InjectThrottlerOptions, InjectThrottlerStorage } from '@nestjs/throttler';
import { LRUCache } from 'lru-cache';
import type { Counter } from 'prom-client';
import { LoadedSettings } from '../config/index.js';
import type { RequestContext } from '../context/index.js';
import { AppError, isAppError } from '../errors/index.js';
import { Metrics } from '../observability/index.js';
import { networkOf } from './client-network.js';
import { categoryFor, layersOf, rateKey, type RateThrottler, windowInWords } from './rate-policy.js';
import { type Bucket, RateStorage } from './rate-storage.js';

/** Most networks that are remembered as refused for too many wrong credentials. */
const MAX_BLOCKED = 10_000;

/**
 * Counts every request once: against the limits of its route and principal, or, when it was refused earlier, against that of its
 * address. The request needs room in all of them, and the headers show the tightest. Nest's routes and the lean routes share it.
 */
@Injectable()
export class RateLimiter {
  private readonly throttlers: Map<string, RateThrottler>;
  private readonly alone: ReadonlySet<string>;
  private readonly blocked = new LRUCache<string, { error: AppError; headers: RateHeaders }>({ max: MAX_BLOCKED });
  private readonly hits: Counter<'category'>;

  constructor(
    @InjectThrottlerOptions() { throttlers }: { throttlers: RateThrottler[] },
    @InjectThrottlerStorage() private readonly storage: RateStorage,
    settings: LoadedSettings,
    metrics: Metrics,
  ) {
    this.throttlers = new Map(throttlers.map((throttler) => [throttler.name, throttler]));
    const limits = settings.rateLimits();
    this.alone = new Set(limits.filter(({ alone }) => alone).map(({ category }) => category));
    this.hits = metrics.counter('nexus_rate_limit_hits_total', 'Requests refused by a rate limit', ['category']);
  }

  /**
   * Counts a request that was admitted to its route.
   * @throws AppError `rate_limited`
   */
  admit(context: RequestContext, category: string | undefined, to: HeaderSink): Promise<void> | undefined {
    context.counted = true;
    if (category === 'none') return undefined;
    return this.count(context, categoryFor(category, context.actor), to);
  }

  /**
   * Counts a request that was refused before its route was reached.
   * @returns the error to answer: the one given, or `rate_limited`
   */
  async refuse(
    context: RequestContext,
    headers: IncomingHttpHeaders,
    error: unknown,
    to: HeaderSink,
  ): Promise<unknown> {
    if (context.counted) {
      const blocked = this.blocked.get(networkOf(context.ip));
      if (blocked && blocked.error === error) setAll(to, blocked.headers);
      return error;
    }
    context.counted = true;
    const guessed = isAppError(error) && error.kind === 'unauthenticated' && hasCredential(headers);
    const category = guessed && !context.actor ? 'refused' : categoryFor(undefined, context.actor);
    try {
      await this.count(context, category, to);
      return error;
    } catch (limited) {
      return limited;
    }
  }

  /**
   * Refuses an address that has sent too many wrong credentials, before the next one is checked.
   * @throws AppError `rate_limited`
   */
  checkGuesses(context: RequestContext, headers: IncomingHttpHeaders): void {
    if (this.blocked.size === 0 || !hasCredential(headers)) return;
    const blocked = this.blocked.get(networkOf(context.ip));
    if (!blocked) return;
    context.counted = true;
    this.hits.inc({ category: 'refused' });
    throw blocked.error;
  }

  /** Counts a request. Returns undefined, so that nothing is awaited, when all its limits are switched off. */
  private count(context: RequestContext, category: string, to: HeaderSink): Promise<void> | undefined {
    const buckets = this.bucketsOf(context, category);
    return buckets.length === 0 ? undefined : this.countIn(buckets, context, to);
  }

  private async countIn(buckets: readonly CountedBucket[], context: RequestContext, to: HeaderSink): Promise<void> {
    const hits = await this.storage.take(buckets);
    const levels = buckets.map((bucket, n) => ({ ...bucket, ...hits[n], left: capacity(bucket) - hits[n].totalHits }));
    const tightest = levels.reduce((one, other) => (isTighter(other, one) ? other : one));
    const { layer, limit, windowMs, left, isBlocked, timeToExpire, timeToBlockExpire } = tightest;
    const window = windowMs / 1000;
    const headers: RateHeaders = {
      'X-RateLimit-Limit': String(limit),
      'X-RateLimit-Remaining': String(Math.min(limit, Math.max(0, left))),
      'X-RateLimit-Reset': String(Math.ceil(Date.now() / 1000) + timeToExpire),
      'X-RateLimit-Window': String(window),
    };
    setAll(to, headers);
    if (!isBlocked) return;
    this.hits.inc({ category: layer });
    const error = new AppError('rate_limited', 'Too many requests: the limit of this kind of request is used up', {
      details: { category: layer },
      retryAfter: timeToBlockExpire,
      limit,
      window: windowInWords(window),
    });
    if (layer === 'refused') {
      this.blocked.set(networkOf(context.ip), { error, headers }, { ttl: timeToBlockExpire * 1000 });
    }
    throw error;
  }

  /** The limits of a request, without those that are switched off. */
  private bucketsOf({ actor, ip }: RequestContext, category: string): CountedBucket[] {
    return layersOf(category, this.alone).flatMap((layer) => {
      const throttler = this.throttlers.get(layer);
      if (!throttler) return [];
      const { limit, ttl, burst } = throttler;
      return [{ layer, key: rateKey(layer, actor, ip), limit, windowMs: ttl, burst }];
    });
  }
}

type RateHeaders = Record<`X-RateLimit-${string}`, string>;

function setAll(to: HeaderSink, headers: RateHeaders): void {
  for (const [name, value] of Object.entries(headers)) to.setHeader(name, value);
}

type CountedBucket = Bucket & { layer: string };

function capacity({ limit, burst = 0 }: Bucket): number {
  return limit + burst;
}

interface Level {
  left: number;
  timeToBlockExpire: number;
}

/** True when the first limit is the tighter one: it frees up later, or, when both have room, it has less left. */
function isTighter(one: Level, other: Level): boolean {
  if (one.timeToBlockExpire !== other.timeToBlockExpire) return one.timeToBlockExpire > other.timeToBlockExpire;
  return one.left < other.left;
}

/** Where headers are set: on a response, or on the plain map of a lean route. */
export type HeaderSink = Pick<ServerResponse, 'setHeader'>;

export function hasCredential(headers: IncomingHttpHeaders): boolean {
  return headers.authorization !== undefined || headers['x-api-key'] !== undefined;
}
