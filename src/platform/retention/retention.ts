import { Injectable } from '@nestjs/common';
import type { ObjectLiteral } from 'typeorm';
import { LoadedSettings } from '../config/index.js';
import { Database, DatabaseClock, deleteBefore } from '../database/index.js';
import { Features } from '../features/index.js';
import { defineJob, HandleJob, type JobContext } from '../jobs/index.js';
import { Logger, Metrics } from '../observability/index.js';
import { type RetentionRule, retentionRules } from './retention-rule.js';

/** Deletes what is past its retention, in all domains. */
export const EnforceRetention = defineJob({ name: 'retention.enforce', queue: 'maintenance', everyMs: 3_600_000 });

const DAY_MS = 86_400_000;

export interface RetentionRun {
  /** The time of the database, ms. */
  readonly now: number;
  /** False while the clocks of the database and of this process disagree: one of them is wrong, perhaps by months. */
  readonly clocksAgree: boolean;
  readonly signal: AbortSignal;
}

type Enforce = (run: RetentionRun) => Promise<void>;

/**
 * Deletes rows by the rules that the domains declare, a batch at a time, once an hour in one worker. It goes by the clock of the
 * database, and deletes nothing while that of the process disagrees. A rule that fails does not stop the others; the job is
 * tried again.
 */
@Injectable()
export class Retention {
  private readonly rules: RetentionRule<ObjectLiteral>[];
  private readonly contributed = new Map<string, Enforce>();
  private readonly deleted;
  private readonly failures;

  constructor(
    private readonly db: Database,
    private readonly clock: DatabaseClock,
    private readonly settings: LoadedSettings,
    private readonly logger: Logger,
    metrics: Metrics,
    features: Features,
  ) {
    this.rules = features.of(retentionRules).flat();
    this.deleted = metrics.counter('nexus_retention_deleted_total', 'Rows deleted past their retention', ['table']);
    this.failures = metrics.counter('nexus_retention_failures_total', 'Runs of a retention that failed', ['table']);
  }

  /** Adds what cannot be said by a rule, such as dropping the partitions of `table`. It runs before the rules. */
  contribute(table: string, enforce: Enforce): void {
    this.contributed.set(table, enforce);
  }

  /** @throws AggregateError after all others are done, when some retention failed */
  @HandleJob(EnforceRetention)
  async run(_payload?: unknown, { signal }: Pick<JobContext, 'signal'> = new AbortController()): Promise<void> {
    const { now, skewMs, agrees } = await this.clock.read();
    if (!agrees) this.logger.warn({ skew_ms: skewMs }, 'The clocks disagree: the retention is limited');
    await this.enforce(now, agrees, signal);
  }

  /** The same as if it was `now`. */
  async enforce(now: number, clocksAgree = true, signal = new AbortController().signal): Promise<void> {
    const errors: unknown[] = [];
    const attempt = async (table: string, work: () => Promise<void>): Promise<void> => {
      signal.throwIfAborted();
      try {
        await work();
      } catch (error) {
        signal.throwIfAborted();
        this.failures.inc({ table });
        this.logger.warn({ table, err: String(error) }, 'The retention of a table failed');
        errors.push(error);
      }
    };
    for (const [table, enforce] of this.contributed) {
      await attempt(table, () => enforce({ now, clocksAgree, signal }));
    }
    for (const rule of clocksAgree ? this.rules : []) {
      const table = this.db.repository(rule.entity).metadata.tableName;
      await attempt(table, () => this.delete(table, rule, now, signal));
    }
    if (errors.length > 0) throw new AggregateError(errors, 'Some retention failed');
  }

  private async delete(
    table: string,
    { entity, column, days, where }: RetentionRule<ObjectLiteral>,
    now: number,
    signal: AbortSignal,
  ): Promise<void> {
    const before = new Date(now - (typeof days === 'number' ? days : days(this.settings)) * DAY_MS);
    const count = await deleteBefore(this.db, entity, [column].flat(), before, { where, signal });
    if (count === 0) return;
    this.deleted.inc({ table }, count);
    this.logger.info({ table, rows: count, before }, 'Deleted rows past their retention');
  }
}
