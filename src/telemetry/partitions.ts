import { Injectable } from '@nestjs/common';
import { Settings } from '../platform/config/index.js';
import { Database, RangePartitions } from '../platform/database/index.js';

const DAY_MS = 86_400_000;
/** Made ahead of time, so that midnight needs no schema change in the path of an insert. */
const DAYS_AHEAD = 3;
const DAYS_BACK = 1;

/** The daily partitions of `telemetry_events`, one per UTC day. */
@Injectable()
export class Partitions {
  private readonly known = new Set<number>();
  private readonly partitions: RangePartitions;

  constructor(
    db: Database,
    private readonly settings: Settings,
  ) {
    this.partitions = new RangePartitions(db.bulk, 'telemetry_events', 'day');
  }

  /** Oldest `timestamp` that is taken at `now`, ms. Its whole UTC day is still stored, so rollups of it can be rebuilt. */
  oldestAccepted(now: number): number {
    return now - this.settings.telemetryRetentionDays * DAY_MS;
  }

  /** Makes the partitions for these times where they are missing. */
  async ensure(times: Iterable<number>): Promise<void> {
    const missing = new Set<number>();
    for (const time of times) {
      const day = Math.floor(time / DAY_MS);
      if (!this.known.has(day)) missing.add(day);
    }
    for (const day of missing) {
      await this.partitions.create(day * DAY_MS);
      this.known.add(day);
    }
  }

  /** Makes those of the days around `now`. */
  async ensureAround(now: number): Promise<void> {
    this.known.clear();
    const days = Array.from({ length: DAYS_BACK + 1 + DAYS_AHEAD }, (_, i) => now + (i - DAYS_BACK) * DAY_MS);
    await this.ensure(days);
  }

  /** Another process may have dropped what this one remembers. */
  forget(): void {
    this.known.clear();
  }

  /**
   * Drops partitions whose whole day is older than the retention.
   * @returns their names
   */
  async dropExpired(now: number): Promise<string[]> {
    const dropped = await this.partitions.dropBefore(this.oldestAccepted(now));
    this.known.clear();
    return dropped;
  }
}
