import { createHash } from 'node:crypto';
import { Redis } from 'ioredis';
import type { Logger } from '../observability/index.js';

const TIMEOUT_MS = 500;
/** Far beyond the life of any value: a value must not outlive the versions it was made of. */
const VERSIONS_LAST_S = 7 * 24 * 3600;
const LONGEST_KEY = 200;

interface Stored<T> {
  value: T;
  /** Of its tags, before it was made. */
  versions: (string | null)[];
  /** Epoch milliseconds. */
  until: number;
}

interface Read<T> {
  found: { value: T; leftMs: number } | null;
  /** Stores what was made instead, unless one of its tags was outdated since. */
  write(value: T, ttlMs: number): Promise<void>;
}

/**
 * The level of a cache that all processes share. Each tag has a version; a value is good only for the versions that were read
 * before it was made, so that one made from old data never passes for new. While Redis is away there is no such level.
 */
export class SharedCache {
  private readonly redis: Redis;
  private away = false;

  constructor(
    url: string,
    private readonly logger: Logger,
  ) {
    this.redis = new Redis(url, { maxRetriesPerRequest: 0, enableOfflineQueue: false, commandTimeout: TIMEOUT_MS });
    this.redis.on('error', () => undefined);
  }

  /** @returns null while Redis is away */
  async read<T>(cache: string, key: string, tags: readonly string[]): Promise<Read<T> | null> {
    const at = entryKey(cache, key);
    const answer = await this.attempt(() => this.redis.mget(at, ...tags.map((tag) => versionKey(cache, tag))));
    if (!answer) return null;
    const [text, ...versions] = answer;
    const stored = text === null ? null : (JSON.parse(text) as Stored<T>);
    const leftMs = stored ? stored.until - Date.now() : 0;
    const good = stored !== null && leftMs > 0 && stored.versions.join() === versions.join();
    return {
      found: good ? { value: stored.value, leftMs } : null,
      write: async (value, ttlMs) => {
        const entry: Stored<T> = { value, versions, until: Date.now() + ttlMs };
        await this.attempt(() => this.redis.set(at, JSON.stringify(entry), 'PX', ttlMs));
      },
    };
  }

  async outdate(cache: string, tags: readonly string[]): Promise<void> {
    const pipeline = this.redis.pipeline();
    for (const tag of tags) {
      const key = versionKey(cache, tag);
      pipeline.incr(key).expire(key, VERSIONS_LAST_S);
    }
    await this.attempt(() => pipeline.exec());
  }

  stop(): void {
    this.redis.disconnect();
  }

  private async attempt<R>(command: () => Promise<R>): Promise<R | null> {
    try {
      const result = await command();
      if (this.away) this.logger.info('The cache is shared through Redis again');
      this.away = false;
      return result;
    } catch (error) {
      if (!this.away) this.logger.warn({ err: String(error) }, 'The cache cannot be shared: Redis is away');
      this.away = true;
      return null;
    }
  }
}

function entryKey(cache: string, key: string): string {
  const short = key.length <= LONGEST_KEY ? key : createHash('sha256').update(key).digest('base64url');
  return `{nexus}:cache:${cache}:entry:${short}`;
}

function versionKey(cache: string, tag: string): string {
  return `{nexus}:cache:${cache}:version:${tag}`;
}
