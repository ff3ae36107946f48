import { Injectable } from '@nestjs/common';
import { VERSION } from '../platform/config/index.js';
import { HealthRegistry, type HealthStatus, type HealthCheck, Metrics } from '../platform/observability/index.js';
import type { DetailedHealthDto, HealthDto, ShortHealthDto } from './system.dto.js';

/** A result up to this old is returned while a new one is being made, so that probes answer at once under load. */
const STALE_MS = 5000;
const FRESH_MS = 1000;

interface Result {
  at: number;
  status: HealthStatus;
  components: Record<string, HealthCheck>;
}

/** How the server is: one check run at a time, shared by all probes. */
@Injectable()
export class HealthService {
  private last: Result | undefined;
  private running: Promise<Result> | undefined;

  constructor(
    private readonly registry: HealthRegistry,
    private readonly metrics: Metrics,
  ) {}

  /** The short form for the API. */
  async short(): Promise<ShortHealthDto> {
    const { status } = await this.current();
    return { status, timestamp: new Date().toISOString(), version: VERSION };
  }

  /** With the fields that older monitoring tools expect at the root. */
  async full(): Promise<HealthDto> {
    const sessions = this.metrics.registry.getSingleMetric('nexus_active_sessions');
    const value = (await sessions?.get())?.values[0]?.value;
    return {
      ...(await this.short()),
      uptime: Math.round(process.uptime() * 10) / 10,
      ...(value === undefined ? {} : { active_sessions: value }),
    };
  }

  /** With the state of each component. */
  async detailed(): Promise<DetailedHealthDto> {
    const { components } = await this.current();
    return {
      ...(await this.short()),
      components: Object.fromEntries(
        Object.entries(components).map(([name, { status, responseTimeMs, details }]) => [
          name,
          { status, response_time_ms: responseTimeMs, ...(details ? { details } : {}) },
        ]),
      ),
    };
  }

  /** What the readiness probe says: `ready`, or why traffic should go elsewhere. */
  async readiness(): Promise<string> {
    if (this.registry.state !== 'ready') return this.registry.state;
    const { status } = await this.current();
    return status === 'unhealthy' ? 'unhealthy' : 'ready';
  }

  /** What the startup probe says. */
  startup(): string {
    const { state } = this.registry;
    return state === 'ready' || state === 'draining' ? 'started' : state;
  }

  private async current(): Promise<Result> {
    const age = this.last ? performance.now() - this.last.at : Infinity;
    if (this.last && age < FRESH_MS) return this.last;
    const running = this.refresh();
    return this.last && age < STALE_MS ? this.last : running;
  }

  private refresh(): Promise<Result> {
    this.running ??= this.registry
      .run()
      .then((result) => (this.last = { at: performance.now(), ...result }))
      .finally(() => (this.running = undefined));
    return this.running;
  }
}
