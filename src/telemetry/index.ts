export { EventQueries, rangeOf } from './event-queries.js';
export type { TelemetryEvent } from './telemetry-event.entity.js';
export type { TelemetryRow } from './telemetry-event.js';
export { TelemetryIngest } from './telemetry-ingest.js';
export { TelemetryModule } from './telemetry.module.js';
export { parseTimestamp } from './timestamp.js';
