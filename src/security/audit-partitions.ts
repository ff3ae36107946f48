import { Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { SecuritySettings } from './security.settings.js';
import { CAREFUL_DROPS, Database, DatabaseClock, RangePartitions } from '../platform/database/index.js';
import { Logger } from '../platform/observability/index.js';
import { Retention, type RetentionRun } from '../platform/retention/index.js';

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
    this.partitions = new RangePartitions(
      db.bulk,
      'audit_entries',
      'month',
      // Statement triggers guard only the table that a statement names.
      (name) => `CREATE TRIGGER audit_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ${name}
        FOR EACH STATEMENT EXECUTE FUNCTION audit_entries_append_only()`,
    );
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
    await this.db.query(`DELETE FROM audit_minutes WHERE minute < to_timestamp($1 / 1000.0)`, [limit]);
    this.logger.info({ partitions: dropped }, 'Audit entries past their retention dropped');
  }

  private async makeAhead(now: number): Promise<void> {
    const date = new Date(now);
    for (let ahead = 0; ahead <= MONTHS_AHEAD; ahead++) {
      await this.partitions.create(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + ahead));
    }
  }
}
