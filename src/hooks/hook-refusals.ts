import { type BeforeApplicationShutdown, Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { Database } from '../platform/database/index.js';
import { Logger } from '../platform/observability/index.js';
import { countRejected } from './hooks.queries.js';

const FLUSH_MS = 2000;

/** Counts calls that were turned away, in batches: who cannot sign makes no write of his own. Holds one number per hook at most. */
@Injectable()
export class HookRefusals implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private pending = new Map<string, number>();
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly db: Database,
    private readonly logger: Logger,
  ) {}

  count(hookId: string): void {
    this.pending.set(hookId, (this.pending.get(hookId) ?? 0) + 1);
  }

  onApplicationBootstrap(): void {
    this.timer = setInterval(() => void this.flush(), FLUSH_MS);
  }

  async flush(): Promise<void> {
    if (this.pending.size === 0) return;
    const counted = this.pending;
    this.pending = new Map();
    try {
      await countRejected(this.db.bulk, counted);
    } catch (error) {
      this.logger.warn({ err: String(error) }, 'Refused calls of hooks could not be counted');
    }
  }

  async beforeApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    await this.flush();
  }
}
