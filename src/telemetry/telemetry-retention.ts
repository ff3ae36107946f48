import { Injectable } from '@nestjs/common';
import { CAREFUL_DROPS, Database } from '../platform/database/index.js';
import { Logger } from '../platform/observability/index.js';
import { Retention, type RetentionRun } from '../platform/retention/index.js';
import { Partitions } from './partitions.js';
import { deleteOldEvents } from './telemetry.queries.js';

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
    if (clocksAgree) await deleteOldEvents(this.db.bulk, new Date(this.partitions.keptSince(now)), signal);
  }
}
