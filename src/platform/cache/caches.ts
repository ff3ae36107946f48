import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import type { Counter } from 'prom-client';
import { Metrics } from '../observability/index.js';
import { Bus } from '../realtime/index.js';
import { Cache, type CacheOptions } from './cache.js';
import type { SharedCache } from './shared-cache.js';

export const SHARED_CACHE = Symbol('shared-cache');

const DROPPED = 'cache.dropped';
/** More tags than this in one message, and everything of that cache is forgotten. */
const MOST_TAGS = 50;

/** The caches of this process, by name. */
@Injectable()
export class Caches implements OnApplicationShutdown {
  private readonly caches = new Map<string, Cache<unknown>>();
  private readonly requests: Counter<'cache' | 'result'>;
  private readonly stopListening: () => void;

  constructor(
    private readonly bus: Bus,
    @Inject(SHARED_CACHE) private readonly shared: SharedCache | null,
    metrics: Metrics,
  ) {
    const { caches } = this;
    this.requests = metrics.counter('nexus_cache_requests_total', 'Values asked of a cache, by where they came from', [
      'cache',
      'result',
    ]);
    metrics.gauge('nexus_cache_entries', 'Values in the memory of this process', ['cache'], function () {
      for (const [cache, { size }] of caches) this.set({ cache }, size);
    });
    this.stopListening = bus.subscribe<{ cache: string; tags: string[] }>(DROPPED, ({ cache, tags }) =>
      caches.get(cache)?.forget(tags),
    );
  }

  /** @throws Error when there is one of this name already */
  make<T>(name: string, options: CacheOptions): Cache<T> {
    if (this.caches.has(name)) throw new Error(`There is a cache ${name} already`);
    const cache = new Cache<T>(name, options, this.shared, {
      asked: (result) => this.requests.inc({ cache: name, result }),
      dropped: (tags) => this.bus.publish(DROPPED, { cache: name, tags: tags.length > MOST_TAGS ? ['*'] : tags }),
    });
    this.caches.set(name, cache as Cache<unknown>);
    return cache;
  }

  onApplicationShutdown(): void {
    this.stopListening();
    this.shared?.stop();
  }
}
