import { type BeforeApplicationShutdown, Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import type { Actor } from '../../platform/context/index.js';
import { Database } from '../../platform/database/index.js';
import { parsePublicId } from '../../platform/ids/index.js';
import { Logger } from '../../platform/observability/index.js';
import { noteUsed } from './access.queries.js';

const FLUSH_MS = 5000;
/** A credential's time is written at most this often. */
const EVERY_MS = 60_000;
const MAX_ENTRIES = 50_000;

/** Notes when keys and sessions were last used: in batches, off the request path, to the minute. */
@Injectable()
export class LastUsed implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly written = new Map<string, number>();
  private pending = new Set<string>();
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly db: Database,
    private readonly logger: Logger,
  ) {}

  touch(actor: Actor): void {
    const id = actor.credentialId;
    if (id === null || Date.now() - (this.written.get(id) ?? 0) < EVERY_MS) return;
    if (this.written.size >= MAX_ENTRIES) this.written.clear();
    this.written.set(id, Date.now());
    this.pending.add(id);
  }

  onApplicationBootstrap(): void {
    this.timer = setInterval(() => void this.flush(), FLUSH_MS);
  }

  /** Losing one costs a minute of precision, so a failed write is not repeated. */
  async flush(): Promise<void> {
    if (this.pending.size === 0) return;
    const ids = [...this.pending];
    this.pending = new Set();
    const sessions = ids.map((id) => parsePublicId('sess', id)).filter((id) => id !== null);
    const keys = ids.map((id) => parsePublicId('key', id) ?? parsePublicId('token', id)).filter((id) => id !== null);
    try {
      await noteUsed(this.db.bulk, sessions, keys);
    } catch (error) {
      this.logger.warn({ err: String(error) }, 'Times of last use could not be written');
    }
  }

  async beforeApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    await this.flush();
  }
}
