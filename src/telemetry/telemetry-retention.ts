import { Injectable } from '@nestjs/common';
import { TelemetrySettings } from './telemetry.settings.js';
import { CAREFUL_DROPS, Database, DatabaseClock } from '../platform/database/index.js';
import { Logger } from '../platform/observability/index.js';
import { Partitions } from './partitions.js';
import { DAY_MS, keepDays, RESOLUTIONS, rollupsKeptSince } from './resolutions.js';

/** Rows deleted per statement, so that no delete holds its locks or the disk for long. */
const DELETE_AT_ONCE = 5000;

/** Ends what is past its retention: events by dropping whole days, old events (by receipt), rollups and batches by deleting. */
@Injectable()
export class TelemetryRetention {
  constructor(
    private readonly db: Database,
    private readonly clock: DatabaseClock,
    private readonly settings: TelemetrySettings,
    private readonly partitions: Partitions,
    private readonly logger: Logger,
  ) {}

  /** Goes by the clock of the database. While that of this process disagrees, one of them is wrong: little is dropped and nothing deleted. */
  async run(): Promise<void> {
    const { now, skewMs, agrees } = await this.clock.read();
    if (agrees) return this.enforce(now);
    await this.partitions.ensureAround(now);
    const dropped = await this.partitions.dropExpired(now, CAREFUL_DROPS);
    this.logger.warn(
      { skew_ms: skewMs, partitions: dropped },
      'The clocks disagree: the retention of telemetry is limited',
    );
  }

  async enforce(now: number): Promise<void> {
    await this.partitions.ensureAround(now);
    const dropped = await this.partitions.dropExpired(now);
    if (dropped.length > 0) this.logger.info({ partitions: dropped }, 'Telemetry past its retention dropped');
    for (const resolution of RESOLUTIONS) {
      const limit = rollupsKeptSince(this.settings, resolution, now);
      await this.deleteOld('telemetry_rollups', `resolution = ${resolution} AND bucket`, limit);
    }
    await this.deleteOld('telemetry_events_old', 'received_at', this.partitions.keptSince(now));
    await this.deleteOld('telemetry_batches', 'created_at', this.partitions.keptSince(now));
    const days = Math.max(this.settings.retentionDays, ...RESOLUTIONS.map((r) => keepDays(this.settings, r)));
    await this.deleteOld('telemetry_series', 'greatest(last_seen, last_received)', now - (days + 1) * DAY_MS);
  }

  private async deleteOld(table: string, column: string, limit: number): Promise<void> {
    const sql = `DELETE FROM ${table} WHERE ctid IN
      (SELECT ctid FROM ${table} WHERE ${column} < to_timestamp($1 / 1000.0) LIMIT ${DELETE_AT_ONCE})`;
    let deleted: number;
    do deleted = (await this.db.bulk.query(sql, [limit])).rowCount ?? 0;
    while (deleted === DELETE_AT_ONCE);
  }
}
