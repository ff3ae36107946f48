import { nearestWord, type WarningDto } from '../platform/http/index.js';
import type { TelemetryRow } from './telemetry-event.js';

/** Events of this type are meant to be points of a series. */
const METRIC_TYPE = 'system.metric';
/** Keys of `data` that are looked at for one that was misspelt. */
const MAX_KEYS = 50;
/** Warnings of one batch. */
const MAX_WARNINGS = 100;

const OVER_LIMIT: WarningDto = {
  field: 'data',
  message:
    'would begin a new series, for which there is no room (NEXUS_TELEMETRY_MAX_SERIES_PER_SOURCE for each source, ' +
    'NEXUS_TELEMETRY_MAX_SERIES for all): the event is stored, but it is not a point of a series',
};

/** Why a stored event is no point of a series although it looks like one; undefined when there is nothing to say. */
export function metricWarnings(row: TelemetryRow, raw: unknown): WarningDto[] | undefined {
  if (row.metric !== null) return row.series === null ? [OVER_LIMIT] : undefined;
  if (row.eventType !== METRIC_TYPE) return undefined;
  const { data } = raw as { data: Record<string, unknown> };
  const warnings: WarningDto[] = [];
  for (const field of ['metric_name', 'value'] as const) {
    if (data[field] === undefined) warnings.push(missing(field, data));
  }
  if (data.value !== undefined && typeof data.value !== 'number') {
    const message = `is a ${typeof data.value}, not a number: the event is stored, but it is not a point of a series`;
    warnings.push({ field: 'data.value', message });
  }
  return warnings;
}

/** Those of the events of a batch, the first hundred. */
export function batchWarnings(rows: readonly TelemetryRow[], items: readonly unknown[]): WarningDto[] {
  const warnings: WarningDto[] = [];
  for (const row of rows) {
    if (warnings.length >= MAX_WARNINGS) break;
    for (const warning of metricWarnings(row, items[row.index]) ?? []) warnings.push({ ...warning, index: row.index });
  }
  return warnings.slice(0, MAX_WARNINGS);
}

function missing(field: string, data: Record<string, unknown>): WarningDto {
  const written = Object.keys(data)
    .slice(0, MAX_KEYS)
    .find((key) => key.length <= 100 && nearestWord(key, [field]) === field);
  const effect = 'the event is stored, but it is not a point of a series';
  if (written === undefined) return { field: `data.${field}`, message: `is missing: ${effect}` };
  return { field: `data.${written}`, message: `is not a field of a metric: ${effect}; did you mean ${field}?` };
}
