import { Injectable, type OnModuleInit } from '@nestjs/common';
import { Database } from '../platform/database/index.js';
import { HealthRegistry, Metrics } from '../platform/observability/index.js';
import { AGENT_STATUSES } from './agent.js';
import { countByStatus } from './agents.queries.js';

/** How many agents there are in each status, for health and metrics. */
@Injectable()
export class AgentsHealth implements OnModuleInit {
  constructor(
    private readonly db: Database,
    private readonly health: HealthRegistry,
    private readonly metrics: Metrics,
  ) {}

  onModuleInit(): void {
    const counts = (): Promise<Record<string, number>> => this.counts();
    this.health.register('agents', counts);
    this.metrics.sharedGauge('nexus_agents', 'Registered agents by status.', ['status'], async function () {
      // A scrape shows the last numbers while the database is away.
      const now = await counts().catch(() => ({}));
      for (const [status, count] of Object.entries(now)) this.set({ status }, count);
    });
  }

  private async counts(): Promise<Record<string, number>> {
    const zero = AGENT_STATUSES.filter((status) => status !== 'deregistered').map((status) => ({ status, count: 0 }));
    const counts = [...zero, ...(await countByStatus(this.db))];
    return Object.fromEntries(counts.map(({ status, count }) => [status, count]));
  }
}
