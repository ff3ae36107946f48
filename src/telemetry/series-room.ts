import type { TelemetrySettings } from './telemetry.settings.js';
import type { Database } from '../platform/database/index.js';
import { countSeries } from './telemetry.queries.js';
import { TelemetrySeries } from './telemetry-series.entity.js';

const COUNT_EVERY_MS = 10_000;

/**
 * How many more series fit, in all and of each source, so that one source cannot take the room of all others. Counted now and then:
 * several processes may overshoot the limits a little.
 */
export class SeriesRoom {
  /** All series, as last counted, and those let in since. */
  count = 0;
  private bySource = new Map<string, number>();
  private countedAt = -Infinity;

  constructor(
    private readonly db: Database,
    private readonly settings: TelemetrySettings,
  ) {}

  /** Lets in those of the new series that there is room for. */
  async admit<S extends { source: string }>(series: readonly S[]): Promise<S[]> {
    await this.recount([...new Set(series.map(({ source }) => source))]);
    const { maxSeries, maxSeriesPerSource } = this.settings;
    return series.filter(({ source }) => {
      const own = this.bySource.get(source) ?? 0;
      if (this.count >= maxSeries || own >= maxSeriesPerSource) return false;
      this.count++;
      this.bySource.set(source, own + 1);
      return true;
    });
  }

  private async recount(sources: string[]): Promise<void> {
    if (performance.now() - this.countedAt > COUNT_EVERY_MS) {
      this.count = await this.db.repository(TelemetrySeries).count();
      this.bySource = new Map();
      this.countedAt = performance.now();
    }
    const uncounted = sources.filter((source) => !this.bySource.has(source));
    if (uncounted.length === 0) return;
    const counted = await countSeries(this.db.manager, uncounted);
    for (const source of uncounted) {
      // Another request may have counted it meanwhile, and let some of its series in.
      if (!this.bySource.has(source)) this.bySource.set(source, counted.get(source) ?? 0);
    }
  }
}
