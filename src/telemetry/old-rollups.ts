import type { TelemetrySettings } from './telemetry.settings.js';
import { DAY_MS, RESOLUTIONS, storedDays } from './resolutions.js';
import type { TelemetryRow } from './telemetry-event.js';

/** Adds points to the rollups there are, or begins new ones; $2 and $3 are the resolutions and since when each is kept. */
const ADD_TO_ROLLUPS = `
  WITH points AS (
    SELECT resolution, n AS series_id, date_bin(resolution * interval '1 second', ts, 'epoch') AS bucket, ts, v AS value
    FROM jsonb_to_recordset($1::jsonb) AS point(n bigint, t bigint, v double precision)
    CROSS JOIN LATERAL to_timestamp(t / 1000.0) AS ts
    CROSS JOIN unnest($2::int[], $3::timestamptz[]) AS kept(resolution, since)
    WHERE date_bin(resolution * interval '1 second', ts, 'epoch') >= since
  ), bins AS (
    SELECT resolution, series_id, bucket, telemetry_bin(value) AS bin, count(*) AS n FROM points GROUP BY 1, 2, 3, 4
  ), totals AS (
    SELECT resolution, series_id, bucket, count(*) AS n, sum(value) AS total, min(value) AS low, max(value) AS high,
           max(ARRAY[extract(epoch FROM ts)::float8, value]) AS latest
    FROM points GROUP BY 1, 2, 3
  )
  INSERT INTO telemetry_rollups AS kept
    (resolution, series_id, bucket, count, sum, min, max, last_at, last, bins, bin_counts)
  SELECT resolution, series_id, bucket, t.n, t.total, t.low, t.high, to_timestamp(t.latest[1]), t.latest[2], b.bins, b.counts
  FROM totals t
  JOIN (SELECT resolution, series_id, bucket, array_agg(bin ORDER BY bin) AS bins, array_agg(n ORDER BY bin) AS counts
        FROM bins GROUP BY 1, 2, 3) b USING (resolution, series_id, bucket)
  -- One order everywhere: two transactions must not wait for each other in a circle.
  ORDER BY resolution, series_id, bucket
  ON CONFLICT (resolution, series_id, bucket) DO UPDATE SET
    count = kept.count + excluded.count, sum = kept.sum + excluded.sum,
    min = least(kept.min, excluded.min), max = greatest(kept.max, excluded.max),
    last = CASE WHEN (excluded.last_at, excluded.last) > (kept.last_at, kept.last) THEN excluded.last ELSE kept.last END,
    last_at = greatest(kept.last_at, excluded.last_at),
    (bins, bin_counts) = (
      SELECT array_agg(bin ORDER BY bin), array_agg(n ORDER BY bin)
      FROM (SELECT bin, sum(n)::bigint AS n
            FROM (SELECT * FROM unnest(kept.bins, kept.bin_counts)
                  UNION ALL SELECT * FROM unnest(excluded.bins, excluded.bin_counts)) AS either(bin, n)
            GROUP BY bin) AS merged)`;

/**
 * Adds old events, just stored, to the rollups of their time. The other events of that time may be gone, so the rollups cannot be
 * computed anew from the stored ones. To be run in the transaction that stores the events, so that each is added once.
 */
export async function addToRollups(
  run: (name: string, text: string, values: unknown[]) => Promise<unknown>,
  settings: TelemetrySettings,
  rows: readonly TelemetryRow[],
): Promise<void> {
  const points = rows.flatMap(({ series, ts, metric }) =>
    series && metric ? [{ n: series.id, t: ts, v: metric.value }] : [],
  );
  if (points.length === 0) return;
  const now = Date.now();
  const since = RESOLUTIONS.map((resolution) => new Date(now - storedDays(settings, resolution) * DAY_MS));
  await run('telemetry-add-to-rollups', ADD_TO_ROLLUPS, [JSON.stringify(points), RESOLUTIONS, since]);
}
