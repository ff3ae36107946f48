import type { TelemetrySettings } from './telemetry.settings.js';
import { addToRollups } from './metrics.queries.js';
import { DAY_MS, RESOLUTIONS, storedDays } from './resolutions.js';
import type { Run } from './telemetry.queries.js';
import type { TelemetryRow } from './telemetry-event.js';

/**
 * Adds old events, just stored, to the rollups of their time. The other events of that time may be gone, so the rollups cannot be
 * computed anew from the stored ones. To be run in the transaction that stores the events, so that each is added once.
 */
export async function addOldToRollups(
  run: Run,
  settings: TelemetrySettings,
  rows: readonly TelemetryRow[],
): Promise<void> {
  const points = rows.flatMap(({ series, ts, metric }) =>
    series && metric ? [{ seriesId: series.id, ts, value: metric.value }] : [],
  );
  if (points.length === 0) return;
  const now = Date.now();
  const since = RESOLUTIONS.map((resolution) => new Date(now - storedDays(settings, resolution) * DAY_MS));
  await addToRollups(run, points, RESOLUTIONS, since);
}
