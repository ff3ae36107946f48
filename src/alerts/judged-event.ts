import type { TelemetryRow } from '../telemetry/index.js';

/** What rules need to know of a telemetry event, whether it was just stored or read again. */
export type JudgedEvent = Pick<
  TelemetryRow,
  'eventId' | 'ts' | 'receivedAt' | 'eventType' | 'source' | 'metric' | 'data' | 'series'
>;
