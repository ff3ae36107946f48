import { Injectable, type OnModuleInit } from '@nestjs/common';
import { Settings } from '../platform/config/index.js';
import { Database, databaseErrorCode } from '../platform/database/index.js';
import { JobQueue, JobRegistry } from '../platform/jobs/index.js';
import { CheckFailed, HealthRegistry, Metrics } from '../platform/observability/index.js';
import { WriteProbe } from './write-probe.entity.js';

type QueueCounts = Record<string, Record<string, number>>;

/** Counting costs a query per queue; whoever asks within this time shares one result. */
const COUNTS_AGE_MS = 5000;
/** A write that worked is good for this long. */
const WRITE_AGE_MS = 5000;

/** Health checks and gauges of the parts every process has: the database and the queues. */
@Injectable()
export class SystemChecks implements OnModuleInit {
  private writtenAt = -Infinity;
  private counted: { at: number; counts: Promise<QueueCounts> } | undefined;

  constructor(
    private readonly health: HealthRegistry,
    private readonly metrics: Metrics,
    private readonly db: Database,
    private readonly jobs: JobQueue,
    private readonly registry: JobRegistry,
    private readonly settings: Settings,
  ) {}

  onModuleInit(): void {
    this.health.register('api', async () => ({ uptime_seconds: Math.round(process.uptime()) }), { vital: true });
    this.health.register('database', () => this.checkDatabase(), { vital: true });
    this.health.register('queue', () => this.checkQueues());
    const { db } = this;
    this.metrics.gauge('nexus_db_connections_active', 'Database connections in use', [], function () {
      this.set(db.connections().active);
    });
    this.metrics.gauge('nexus_db_connections_max', 'Database connections this process may open', [], function () {
      this.set(db.connections().max);
    });
    const countQueues = (): Promise<QueueCounts> => this.countQueues();
    this.metrics.sharedGauge('nexus_queue_depth', 'Jobs on a queue, by state', ['queue', 'state'], async function () {
      // A scrape must not fail because the queues cannot be asked; the health check says that.
      const counts = await countQueues().catch((): QueueCounts => ({}));
      this.reset();
      for (const [queue, states] of Object.entries(counts)) {
        for (const [state, count] of Object.entries(states)) this.set({ queue, state }, count);
      }
    });
  }

  private async checkDatabase(): Promise<Record<string, unknown>> {
    await this.checkWrites();
    const { active, max } = this.db.connections();
    return { connections_active: active, connections_max: max };
  }

  /** A standby, a read-only or a full database answers questions and is of no use. */
  private async checkWrites(): Promise<void> {
    const probe = this.db.repository(WriteProbe);
    if (performance.now() - this.writtenAt < WRITE_AGE_MS) {
      await probe.exists();
      return;
    }
    try {
      await probe.upsert({ one: true, writtenAt: new Date() }, ['one']);
    } catch (error) {
      throw new CheckFailed('The database takes no changes', { writable: false, reason: databaseErrorCode(error) });
    }
    this.writtenAt = performance.now();
  }

  private async checkQueues(): Promise<Record<string, unknown>> {
    const all = Object.values(await this.countQueues());
    const sum = (state: string): number => all.reduce((total, counts) => total + (counts[state] ?? 0), 0);
    const carrier = this.settings.redisUrl === undefined ? 'postgresql' : 'redis';
    return { carrier, queues: all.length, waiting: sum('waiting') + sum('prioritized'), active: sum('active') };
  }

  private countQueues(): Promise<QueueCounts> {
    if (!this.counted || performance.now() - this.counted.at > COUNTS_AGE_MS) {
      const counts = this.askQueues();
      counts.catch(() => (this.counted = undefined));
      this.counted = { at: performance.now(), counts };
    }
    return this.counted.counts;
  }

  private async askQueues(): Promise<QueueCounts> {
    const names = this.registry.queues();
    const counts = await Promise.all(
      names.map((name) => this.jobs.queue(name).getJobCounts('waiting', 'prioritized', 'active', 'delayed', 'failed')),
    );
    return Object.fromEntries(names.map((name, index) => [name, counts[index]]));
  }
}
