import { Injectable } from '@nestjs/common';
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry, type RegistryContentType } from 'prom-client';
import { Semaphore } from '../concurrency/index.js';

/** The process's Prometheus registry. Asking for a name again gives the same metric. */
@Injectable()
export class Metrics {
  readonly registry = new Registry<RegistryContentType>();
  /** Whether this process shows what holds for all processes together; one of them does, so that sums are right. */
  showsShared: () => Promise<boolean> = () => Promise.resolve(true);
  private readonly mutex = new Semaphore(1);

  constructor() {
    collectDefaultMetrics({ register: this.registry });
    // Sums of gauges beside them, in names that Prometheus keeps for counters.
    for (const name of ['handles', 'requests', 'resources']) {
      this.registry.removeSingleMetric(`nodejs_active_${name}_total`);
    }
  }

  /** `collect` is called at each scrape, for a total that is counted elsewhere. */
  counter<L extends string>(
    name: string,
    help: string,
    labelNames: L[] = [],
    collect?: (this: Counter<L>) => void,
  ): Counter<L> {
    return this.existing(name) ?? new Counter({ name, help, labelNames, registers: [this.registry], collect });
  }

  /** `collect` is called at each scrape to set the value; when it fails, the scrape shows the last one. */
  gauge<L extends string>(
    name: string,
    help: string,
    labelNames: L[] = [],
    collect?: (this: Gauge<L>) => void | Promise<void>,
  ): Gauge<L> {
    const options = { name, help, labelNames, registers: [this.registry] };
    if (!collect) return this.existing(name) ?? new Gauge(options);
    const set = async function (this: Gauge<L>): Promise<void> {
      try {
        await collect.call(this);
      } catch {
        // What cannot be asked says so in its health check.
      }
    };
    return this.existing(name) ?? new Gauge({ ...options, collect: set });
  }

  /** A gauge of what all processes share, such as rows of the database: only one process shows it. */
  sharedGauge<L extends string>(
    name: string,
    help: string,
    labelNames: L[],
    collect: (this: Gauge<L>) => void | Promise<void>,
  ): Gauge<L> {
    const shows = (): Promise<boolean> => this.showsShared();
    return this.gauge(name, help, labelNames, async function () {
      if (await shows()) return collect.call(this);
      this.reset();
      // Without labels a reset leaves a zero.
      if (labelNames.length === 0) this.remove();
    });
  }

  histogram<L extends string>(
    name: string,
    help: string,
    labelNames: L[] = [],
    buckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 2, 5],
  ): Histogram<L> {
    return this.existing(name) ?? new Histogram({ name, help, labelNames, buckets, registers: [this.registry] });
  }

  /** All metrics as text, in the Prometheus format 0.0.4 or as OpenMetrics. */
  render(openMetrics: boolean): Promise<{ contentType: string; text: string }> {
    // The registry holds one format at a time and renders across awaits: one after the other.
    return this.mutex.run(async () => {
      this.registry.setContentType(openMetrics ? Registry.OPENMETRICS_CONTENT_TYPE : Registry.PROMETHEUS_CONTENT_TYPE);
      const text = await this.registry.metrics();
      return { contentType: this.registry.contentType, text };
    });
  }

  private existing<M>(name: string): M | undefined {
    return this.registry.getSingleMetric(name) as M | undefined;
  }
}
