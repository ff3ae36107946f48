import { randomUUID } from 'node:crypto';
import { type BeforeApplicationShutdown, Injectable, type OnModuleInit } from '@nestjs/common';
import { Settings } from '../platform/config/index.js';
import { Database } from '../platform/database/index.js';
import { Metrics } from '../platform/observability/index.js';
import { MetricsLease } from './metrics-reporter.entity.js';
import { takeMetricsLease } from './system.queries.js';

/** Longer than the usual interval between scrapes; a process that is not scraped any more loses its part after it. */
const LEASE_SECONDS = 120;
/** One scrape asks for every gauge. */
const ASK_EVERY_MS = 1000;

/** Makes one process show the gauges that all processes share, by a lease that each scrape takes or extends. */
@Injectable()
export class MetricsReporter implements OnModuleInit, BeforeApplicationShutdown {
  private readonly id = randomUUID();
  private last: Promise<boolean> = Promise.resolve(false);
  private askedAt = -Infinity;

  constructor(
    private readonly db: Database,
    private readonly settings: Settings,
    private readonly metrics: Metrics,
  ) {}

  onModuleInit(): void {
    // The embedded database serves one process.
    if (!this.settings.embedded) this.metrics.showsShared = () => this.holdsLease();
  }

  private holdsLease(): Promise<boolean> {
    if (performance.now() - this.askedAt < ASK_EVERY_MS) return this.last;
    this.askedAt = performance.now();
    const before = this.last;
    // While the database is away, nobody else can take the lease.
    this.last = takeMetricsLease(this.db.manager, this.id, LEASE_SECONDS).catch(() => before);
    return this.last;
  }

  async beforeApplicationShutdown(): Promise<void> {
    if (!(await this.last)) return;
    await this.db
      .repository(MetricsLease)
      .delete({ processId: this.id })
      .catch(() => undefined);
  }
}
