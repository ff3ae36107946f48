import { Injectable } from '@nestjs/common';
import { Settings } from '../platform/config/index.js';
import { Database } from '../platform/database/index.js';
import { Logger } from '../platform/observability/index.js';
import { Partitions } from './partitions.js';
import { DAY_MS, keepDays, RESOLUTIONS } from './resolutions.js';

/** Rows deleted per statement, so that no delete holds its locks or the disk for long. */
const DELETE_AT_ONCE = 5000;

/** Ends what is past its retention (row TEL-13): raw events by dropping whole days, rollups and batches by deleting. */
@Injectable()
export class TelemetryRetention {
  constructor(
    private readonly db: Database,
    private readonly settings: Settings,
    private readonly partitions: Partitions,
    private readonly logger: Logger,
  ) {}

  async enforce(now: number): Promise<void> {
    await this.partitions.ensureAround(now);
    const dropped = await this.partitions.dropExpired(now);
    if (dropped.length > 0) this.logger.info({ partitions: dropped }, 'Telemetry past its retention dropped');
    for (const resolution of RESOLUTIONS) {
      // A day longer than promised: a coarser bucket that began before the limit is still built from whole finer ones.
      const limit = now - (keepDays(this.settings, resolution) + 1) * DAY_MS;
      await this.deleteOld('telemetry_rollups', `resolution = ${resolution} AND bucket`, limit);
    }
    await this.deleteOld('telemetry_batches', 'created_at', this.partitions.oldestAccepted(now));
    const days = Math.max(this.settings.telemetryRetentionDays, ...RESOLUTIONS.map((r) => keepDays(this.settings, r)));
    await this.deleteOld('telemetry_series', 'last_seen', now - (days + 1) * DAY_MS);
  }

  private async deleteOld(table: string, column: string, limit: number): Promise<void> {
    const sql = `DELETE FROM ${table} WHERE ctid IN
      (SELECT ctid FROM ${table} WHERE ${column} < to_timestamp($1 / 1000.0) LIMIT ${DELETE_AT_ONCE})`;
    let deleted: number;
    do deleted = (await this.db.bulk.query(sql, [limit])).rowCount ?? 0;
    while (deleted === DELETE_AT_ONCE);
  }
}
