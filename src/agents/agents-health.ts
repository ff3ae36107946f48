import { Injectable, type OnModuleInit } from '@nestjs/common';
import { Database } from '../platform/database/index.js';
import { HealthRegistry, Metrics } from '../platform/observability/index.js';
import { AGENT_STATUSES } from './agent.js';

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
    const rows = await this.db.query<{ status: string; count: number }>(
      `SELECT status, count(*)::int AS count FROM agents WHERE status <> 'deregistered' GROUP BY status`,
    );
    const zero = AGENT_STATUSES.filter((status) => status !== 'deregistered').map((status) => [status, 0]);
    return { ...Object.fromEntries(zero), ...Object.fromEntries(rows.map((r) => [r.status, r.count])) } as Record<
      string,
      number
    >;
  }
}
