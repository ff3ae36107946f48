import { Injectable } from '@nestjs/common';
import { TelemetrySettings } from './telemetry.settings.js';
import { Database, databaseErrorKind, RangePartitions } from '../platform/database/index.js';
import { DAY_MS, dailySince } from './resolutions.js';

/** Made ahead of time, so that midnight needs no schema change in the path of an insert. */
const DAYS_AHEAD = 3;
const DAYS_BACK = 1;

/** The daily partitions of `telemetry_events`, one per UTC day; what is older than the retention lies in `telemetry_events_old`. */
@Injectable()
export class Partitions {
  private readonly known = new Set<number>();
  private readonly partitions: RangePartitions;

  constructor(
    db: Database,
    private readonly settings: TelemetrySettings,
  ) {
    this.partitions = new RangePartitions(db.bulk, 'telemetry_events', 'day');
  }

  /** The retention's limit at `now`, ms: what was received before it is over. */
  keptSince(now: number): number {
    return now - this.settings.retentionDays * DAY_MS;
  }

  /** Makes the partitions for these events where they are missing. */
  async ensureFor(rows: Iterable<{ ts: number; isOld: boolean }>): Promise<void> {
    const missing = new Set<number>();
    for (const { ts, isOld } of rows) {
      const day = Math.floor(ts / DAY_MS);
      if (!isOld && !this.known.has(day)) missing.add(day);
    }
    if (missing.size > 0) await this.make(missing);
  }

  /** Makes those of the days around `now`. */
  async ensureAround(now: number): Promise<void> {
    this.known.clear();
    const today = Math.floor(now / DAY_MS);
    await this.make(Array.from({ length: DAYS_BACK + 1 + DAYS_AHEAD }, (_, i) => today + i - DAYS_BACK));
  }

  /**
   * Drops partitions whose whole day is older than the retention, at most so many.
   * @returns their names
   */
  async dropExpired(now: number, limit?: number): Promise<string[]> {
    const dropped = await this.partitions.dropBefore(dailySince(this.settings, now), limit);
    this.known.clear();
    return dropped;
  }

  private async make(days: Iterable<number>): Promise<void> {
    for (const day of days) {
      await this.partitions.create(day * DAY_MS).catch((error: unknown) => {
        // The retention was shorter once: events of that day are among the old ones, and so are those that follow.
        if (databaseErrorKind(error) !== 'check_violation') throw error;
      });
      this.known.add(day);
    }
  }
}
