import { Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { LessThan } from 'typeorm';
import { CAREFUL_DROPS, Database, DatabaseClock, RangePartitions } from '../platform/database/index.js';
import { Logger } from '../platform/observability/index.js';
import { Retention, type RetentionRun } from '../platform/retention/index.js';
import { AuditMinute } from './audit-minute.entity.js';
import { appendOnlyTrigger } from './audit.queries.js';
import { SecuritySettings } from './security.settings.js';

const DAY_MS = 86_400_000;
/** Made ahead of time: an entry whose month has no partition could not be written. */
const MONTHS_AHEAD = 2;

/** The months of the audit trail: made ahead, and dropped whole once they are past the retention. */
@Injectable()
export class AuditPartitions implements OnApplicationBootstrap {
  private readonly partitions: RangePartitions;

  constructor(
    private readonly db: Database,
    private readonly clock: DatabaseClock,
    private readonly settings: SecuritySettings,
    retention: Retention,
    private readonly logger: Logger,
  ) {
    retention.contribute('audit_entries', (run) => this.enforceRetention(run));
    this.partitions = new RangePartitions(db.bulk, 'audit_entries', 'month', appendOnlyTrigger);
  }

  /** Before the first request, also where no worker has run for months. */
  async onApplicationBootstrap(): Promise<void> {
    await this.makeAhead((await this.clock.read()).now);
  }

  /** Open minutes of a month that is gone could not become entries. */
  async enforceRetention({ now, clocksAgree }: Omit<RetentionRun, 'signal'>): Promise<void> {
    await this.makeAhead(now);
    const limit = now - this.settings.auditRetentionDays * DAY_MS;
    const dropped = await this.partitions.dropBefore(limit, clocksAgree ? undefined : CAREFUL_DROPS);
    if (dropped.length === 0) return;
    await this.db.repository(AuditMinute).delete({ minute: LessThan(new Date(limit)) });
    this.logger.info({ partitions: dropped }, 'Audit entries past their retention dropped');
  }

  private async makeAhead(now: number): Promise<void> {
    const date = new Date(now);
    for (let ahead = 0; ahead <= MONTHS_AHEAD; ahead++) {
      await this.partitions.create(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + ahead));
    }
  }
}
