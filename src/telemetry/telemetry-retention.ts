import { Injectable } from '@nestjs/common';
import { CAREFUL_DROPS, Database } from '../platform/database/index.js';
import { Logger } from '../platform/observability/index.js';
import { Retention, type RetentionRun } from '../platform/retention/index.js';
import { Partitions } from './partitions.js';

/** Rows deleted per statement, so that no delete holds its locks or the disk for long. */
const BATCH_SIZE = 5000;

/** Makes the partitions of the coming days. Ends events past their retention: whole days are dropped, old events deleted by receipt. */
@Injectable()
export class TelemetryRetention {
  constructor(
    private readonly db: Database,
    private readonly partitions: Partitions,
    retention: Retention,
    private readonly logger: Logger,
  ) {
    retention.contribute('telemetry_events', (run) => this.enforce(run));
  }

  private async enforce({ now, clocksAgree, signal }: RetentionRun): Promise<void> {
    await this.partitions.ensureAround(now);
    const dropped = await this.partitions.dropExpired(now, clocksAgree ? undefined : CAREFUL_DROPS);
    if (dropped.length > 0) this.logger.info({ partitions: dropped }, 'Telemetry past its retention dropped');
    if (!clocksAgree) return;
    const sql = `DELETE FROM telemetry_events_old WHERE ctid IN
      (SELECT ctid FROM telemetry_events_old WHERE received_at < to_timestamp($1 / 1000.0) LIMIT ${BATCH_SIZE})`;
    let deleted: number;
    do {
      signal.throwIfAborted();
      deleted = (await this.db.bulk.query(sql, [this.partitions.keptSince(now)])).rowCount ?? 0;
    } while (deleted === BATCH_SIZE);
  }
}
