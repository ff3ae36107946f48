import { Injectable } from '@nestjs/common';
import type { PoolClient } from 'pg';
import { TelemetrySettings } from './telemetry.settings.js';
import { advisoryLock, Database, type WatchedClient } from '../platform/database/index.js';
import { Metrics } from '../platform/observability/index.js';
import { bucketOf, dailySince, DAY_MS, keepDays, RESOLUTIONS, type Resolution } from './resolutions.js';

/** A minute is rolled up once it has been over for this long, so that it is rarely done twice. */
const SETTLE_SECONDS = 10;
/** Share of the time that rolling up may take. */
const DUTY = 0.15;
/** Work of one run before it rests, ms. */
const RUN_MS = 750;
/** One roller at a time across all processes. */
const STATEMENT_TIMEOUT_MS = 300_000;
/** Above it: the connection of a server that does not even end the statement is given up. */
const PATIENCE_MS = STATEMENT_TIMEOUT_MS + 10_000;
const ROLLUP_LOCK = advisoryLock('telemetry.roll-up');

/** Raw values of `[$2, $3)` per series and bin. */
const FROM_RAW = `
  bins AS MATERIALIZED (
    SELECT series_id, telemetry_bin(value) AS bin, count(*) AS n, sum(value) AS total, min(value) AS low,
           max(value) AS high, max(ARRAY[extract(epoch FROM ts)::float8, value]) AS latest
    FROM telemetry_events
    WHERE ts >= $2 AND ts < $3 AND series_id IS NOT NULL AND value IS NOT NULL
    GROUP BY series_id, bin
  ), totals AS (
    SELECT series_id, sum(n) AS n, sum(total) AS total, min(low) AS low, max(high) AS high, max(latest) AS latest
    FROM bins GROUP BY series_id
  )`;

/** The same from the rollups of resolution $4. */
const FROM_ROLLUPS = `
  parts AS MATERIALIZED (
    SELECT * FROM telemetry_rollups WHERE resolution = $4 AND bucket >= $2 AND bucket < $3
  ), bins AS (
    SELECT series_id, b.bin, sum(b.n) AS n FROM parts, unnest(bins, bin_counts) AS b(bin, n) GROUP BY series_id, b.bin
  ), totals AS (
    SELECT series_id, sum(count) AS n, sum(sum) AS total, min(min) AS low, max(max) AS high,
           max(ARRAY[extract(epoch FROM last_at)::float8, last]) AS latest
    FROM parts GROUP BY series_id
  )`;

const UPSERT = `
  INSERT INTO telemetry_rollups
    (resolution, series_id, bucket, count, sum, min, max, last_at, last, bins, bin_counts)
  SELECT $1, series_id, $2, t.n, t.total, t.low, t.high, to_timestamp(t.latest[1]), t.latest[2], b.bins, b.counts
  FROM totals t
  JOIN (SELECT series_id, array_agg(bin ORDER BY bin) AS bins, array_agg(n ORDER BY bin) AS counts
        FROM bins GROUP BY series_id) b USING (series_id)
  ON CONFLICT (resolution, series_id, bucket) DO UPDATE SET
    count = excluded.count, sum = excluded.sum, min = excluded.min, max = excluded.max, last_at = excluded.last_at,
    last = excluded.last, bins = excluded.bins, bin_counts = excluded.bin_counts`;

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
      await this.compact(client);
      for (;;) {
        const due = await nextDue(client, now);
        if (!due || signal.aborted) break;
        const rolling = (): Promise<boolean> => this.roll(client, due.resolution, due.bucket, now);
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

  /** Many flushes name the same minute; keeps one row of each, so that the list stays short. */
  private async compact(client: PoolClient): Promise<void> {
    await client.query(`
      WITH taken AS (DELETE FROM telemetry_dirty WHERE pg_try_advisory_xact_lock(${ROLLUP_LOCK}) RETURNING *)
      INSERT INTO telemetry_dirty SELECT DISTINCT resolution, bucket FROM taken`);
  }

  /** False when another process is at it. */
  private async roll(client: PoolClient, resolution: Resolution, bucket: Date, now: number): Promise<boolean> {
    const end = this.seconds.startTimer({ resolution: String(resolution) });
    await client.query('BEGIN');
    // Losing the last of these commits in a crash only means doing it again.
    await client.query(`SET LOCAL synchronous_commit = off`);
    await client.query(`SET LOCAL statement_timeout = ${STATEMENT_TIMEOUT_MS}`);
    const lock = await client.query<{ mine: boolean }>(`SELECT pg_try_advisory_xact_lock(${ROLLUP_LOCK}) AS mine`);
    if (!lock.rows[0].mine) {
      await client.query('ROLLBACK');
      return false;
    }
    await client.query(`DELETE FROM telemetry_dirty WHERE resolution = $1 AND bucket = $2`, [resolution, bucket]);
    const stop = new Date(bucket.getTime() + resolution * 1000);
    const level = RESOLUTIONS.indexOf(resolution);
    const finer = level > 0 ? RESOLUTIONS[level - 1] : undefined;
    if (finer !== undefined && bucket.getTime() >= this.keptSince(finer, now)) {
      await client.query(`WITH ${FROM_ROLLUPS} ${UPSERT}`, [resolution, bucket, stop, finer]);
    } else if (bucket.getTime() >= dailySince(this.settings, now)) {
      // Of earlier times not all events are stored any more; the rollups there are know more than those.
      await client.query(`WITH ${FROM_RAW} ${UPSERT}`, [resolution, bucket, stop]);
    }
    const coarser = RESOLUTIONS.at(level + 1);
    if (coarser !== undefined) {
      await client.query(`INSERT INTO telemetry_dirty (resolution, bucket) VALUES ($1, $2)`, [
        coarser,
        new Date(bucketOf(bucket.getTime(), coarser)),
      ]);
    }
    await client.query('COMMIT');
    end();
    return true;
  }

  /** From when on (ms) rollups of a resolution are whole. */
  keptSince(resolution: Resolution, now: number): number {
    return now - keepDays(this.settings, resolution) * DAY_MS;
  }
}

async function nextDue(client: PoolClient, now: number): Promise<{ resolution: Resolution; bucket: Date } | undefined> {
  const due = await client.query<{ resolution: Resolution; bucket: Date }>(
    `SELECT resolution, bucket FROM telemetry_dirty
     WHERE bucket + resolution * interval '1 second' <= to_timestamp($1 / 1000.0)
     ORDER BY resolution, bucket LIMIT 1`,
    [now - SETTLE_SECONDS * 1000],
  );
  return due.rows[0];
}
