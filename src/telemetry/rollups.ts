import { Injectable } from '@nestjs/common';
import type { PoolClient } from 'pg';
import { TelemetrySettings } from './telemetry.settings.js';
import { Database, type WatchedClient } from '../platform/database/index.js';
import { Metrics } from '../platform/observability/index.js';
import {
  type Bucket,
  compactDirty,
  deleteDirty,
  insertDirty,
  lockRollups,
  nextDirty,
  rollUpEvents,
  rollUpFiner,
} from './metrics.queries.js';
import { bucketOf, dailySince, DAY_MS, keepDays, RESOLUTIONS, type Resolution } from './resolutions.js';
import { begin, commit, rollback } from './telemetry.queries.js';

/** A minute is rolled up once it has been over for this long, so that it is rarely done twice. */
const SETTLE_SECONDS = 10;
/** Share of the time that rolling up may take. */
const DUTY = 0.15;
/** Work of one run before it rests, ms. */
const RUN_MS = 750;
const STATEMENT_TIMEOUT_MS = 300_000;
/** Above it: the connection of a server that does not even end the statement is given up. */
const PATIENCE_MS = STATEMENT_TIMEOUT_MS + 10_000;

/**
 * Rolls telemetry up: 1m from the raw events, 5m from 1m, 1h from 5m, 1d from 1h. Works off `telemetry_dirty`: a bucket is
 * taken off the list and computed anew in one transaction, so a crash repeats it, and whatever arrives meanwhile puts it
 * on the list again.
 */
@Injectable()
export class Rollups {
  private restUntil = 0;
  private readonly seconds;

  constructor(
    private readonly db: Database,
    private readonly settings: TelemetrySettings,
    metrics: Metrics,
  ) {
    this.seconds = metrics.histogram('nexus_telemetry_rollup_duration_seconds', 'Time to roll up one bucket', [
      'resolution',
    ]);
  }

  /** Rolls up what is due at `now`, within its share of the machine. */
  async run(now: number, signal: AbortSignal): Promise<void> {
    const start = performance.now();
    if (start < this.restUntil) return;
    const client = (await this.db.bulk.connect()) as PoolClient & WatchedClient;
    let failure: Error | undefined;
    try {
      await compactDirty(client);
      for (;;) {
        const due = await nextDirty(client, now - SETTLE_SECONDS * 1000);
        if (!due || signal.aborted) break;
        const rolling = (): Promise<boolean> => this.roll(client, due, now);
        if (!(await client.withPatience(PATIENCE_MS, rolling))) break;
        if (performance.now() - start > RUN_MS) break;
      }
    } catch (error) {
      failure = error as Error;
      throw error;
    } finally {
      // An open transaction goes with its connection.
      client.release(failure);
      const spent = performance.now() - start;
      this.restUntil = performance.now() + spent / DUTY - spent;
    }
  }

  /** False when another process is at it. */
  private async roll(client: PoolClient, due: Bucket, now: number): Promise<boolean> {
    const end = this.seconds.startTimer({ resolution: String(due.resolution) });
    await begin(client);
    if (!(await lockRollups(client, STATEMENT_TIMEOUT_MS))) {
      await rollback(client);
      return false;
    }
    await deleteDirty(client, due);
    const { resolution } = due;
    const start = due.bucket.getTime();
    const stop = new Date(start + resolution * 1000);
    const level = RESOLUTIONS.indexOf(resolution);
    const finer = level > 0 ? RESOLUTIONS[level - 1] : undefined;
    if (finer !== undefined && start >= this.keptSince(finer, now)) {
      await rollUpFiner(client, due, stop, finer);
    } else if (start >= dailySince(this.settings, now)) {
      // Of earlier times not all events are stored any more; the rollups there are know more than those.
      await rollUpEvents(client, due, stop);
    }
    const coarser = RESOLUTIONS.at(level + 1);
    if (coarser !== undefined) {
      await insertDirty(client, { resolution: coarser, bucket: new Date(bucketOf(start, coarser)) });
    }
    await commit(client);
    end();
    return true;
  }

  /** From when on (ms) rollups of a resolution are whole. */
  keptSince(resolution: Resolution, now: number): number {
    return now - keepDays(this.settings, resolution) * DAY_MS;
  }
}
