import { LRUCache } from 'lru-cache';
import { runDetached } from '../context/index.js';
import type { SharedCache } from './shared-cache.js';

export interface CacheOptions {
  /** Longest age of a value in milliseconds: also the bound of staleness when a message between processes is lost. */
  ttlMs: number;
  /** Most values in the memory of one process. */
  max: number;
}

/** Where a value came from. */
type Origin = 'memory' | 'shared' | 'loaded';

/** What a cache needs of the room around it. */
export interface CacheHooks {
  asked(origin: Origin): void;
  /** Tells the other processes. */
  dropped(tags: readonly string[]): void;
}

interface Entry<T> {
  value: T;
  tags: readonly string[];
}

interface Flight<T> {
  tags: readonly string[];
  result: Promise<T>;
  /** Something it may have read has changed since: its value is not kept. */
  outdated: boolean;
}

/** Tag of every value. */
const EVERYTHING = '*';

/**
 * A cache of values that are expensive to make and may be a little old: in memory, and behind it in Redis where there is one.
 * When several callers ask for the same missing value at once, only one of them makes it. Values are JSON.
 */
export class Cache<T> {
  private readonly entries: LRUCache<string, Entry<T>>;
  private readonly flights = new Map<string, Flight<T>>();

  constructor(
    readonly name: string,
    private readonly options: CacheOptions,
    private readonly shared: SharedCache | null,
    private readonly hooks: CacheHooks,
  ) {
    this.entries = new LRUCache({ max: options.max });
  }

  get size(): number {
    return this.entries.size;
  }

  /**
   * The value of `key`, made by `load` when it is not known. A failing `load` fails for all who wait for it and is not remembered.
   * @param tags names of what the value is made of, to drop it by
   */
  get(key: string, load: () => Promise<T>, tags: readonly string[] = []): Promise<T> {
    const entry = this.entries.get(key);
    if (entry) {
      this.hooks.asked('memory');
      return Promise.resolve(entry.value);
    }
    const known = this.flights.get(key);
    if (known) {
      this.hooks.asked('memory');
      return known.result;
    }
    return this.fetch(key, load, [EVERYTHING, ...tags]);
  }

  /** To be called after the commit of a change: forgets the values with one of these tags, or all, in every process. */
  async drop(tags: readonly string[] = [EVERYTHING]): Promise<void> {
    // First the others' way to the old value, then ours and theirs.
    await this.shared?.outdate(this.name, tags);
    this.forget(tags);
    this.hooks.dropped(tags);
  }

  /** Forgets here what another process has dropped. */
  forget(tags: readonly string[]): void {
    const hit = (own: readonly string[]): boolean => own.some((tag) => tags.includes(tag));
    for (const [key, entry] of this.entries.entries()) if (hit(entry.tags)) this.entries.delete(key);
    for (const [key, flight] of this.flights) {
      if (!hit(flight.tags)) continue;
      flight.outdated = true;
      this.flights.delete(key);
    }
  }

  private fetch(key: string, load: () => Promise<T>, tags: readonly string[]): Promise<T> {
    // In nobody's request: its end must not end it for the others.
    const result = runDetached(async () => {
      const known = await this.shared?.read<T>(this.name, key, tags);
      if (known?.found) {
        this.hooks.asked('shared');
        this.keep(key, flight, known.found.value, known.found.leftMs);
        return known.found.value;
      }
      this.hooks.asked('loaded');
      const value = await load();
      // Not all at the same time, so that they are not made again all at the same time.
      const ttl = Math.ceil(this.options.ttlMs * (0.8 + 0.2 * Math.random()));
      this.keep(key, flight, value, ttl);
      if (!flight.outdated) await known?.write(value, ttl);
      return value;
    });
    const flight: Flight<T> = { tags, result, outdated: false };
    this.flights.set(key, flight);
    const landed = (): void => {
      if (this.flights.get(key) === flight) this.flights.delete(key);
    };
    result.then(landed, landed);
    return result;
  }

  private keep(key: string, flight: Flight<T>, value: T, ttl: number): void {
    if (!flight.outdated) this.entries.set(key, { value, tags: flight.tags }, { ttl });
  }
}
