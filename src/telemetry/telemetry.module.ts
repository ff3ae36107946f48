import { Module } from '@nestjs/common';
import { AgentsModule } from '../agents/index.js';
import type { LoadedSettings } from '../platform/config/index.js';
import { DatabaseModule } from '../platform/database/index.js';
import { HttpModule } from '../platform/http/index.js';
import { JobsModule } from '../platform/jobs/index.js';
import { RetentionModule } from '../platform/retention/index.js';
import { AgentTelemetry } from './agent-telemetry.js';
import { DirtyBucket } from './dirty-bucket.entity.js';
import { Discovery } from './discovery.js';
import { EventQueries } from './event-queries.js';
import { MetricQueries } from './metric-queries.js';
import { MetricsController } from './metrics.controller.js';
import { Partitions } from './partitions.js';
import { RESOLUTIONS, storedDays } from './resolutions.js';
import { Rollups } from './rollups.js';
import { SeriesCatalog } from './series-catalog.js';
import { TelemetryBatch } from './telemetry-batch.entity.js';
import { TelemetryEvent } from './telemetry-event.entity.js';
import { TelemetryIngest } from './telemetry-ingest.js';
import { TelemetryRetention } from './telemetry-retention.js';
import { TelemetryRollup } from './telemetry-rollup.entity.js';
import { TelemetrySeries } from './telemetry-series.entity.js';
import { TelemetryStore } from './telemetry-store.js';
import { TelemetryWriter } from './telemetry-writer.js';
import { TelemetryController } from './telemetry.controller.js';
import { RollUpTelemetry } from './telemetry.jobs.js';
import { TelemetrySettings } from './telemetry.settings.js';
import { TelemetryWorker } from './telemetry.worker.js';

declare module '../platform/ids/id-prefixes.js' {
  interface IdPrefixes {
    batch: 'telemetry batch';
  }
}

@Module({
  imports: [
    JobsModule.forFeature([RollUpTelemetry]),
    HttpModule.forFeature({ tags: { telemetry: 'Send, query and roll up events and metrics' } }),
    DatabaseModule.forFeature([DirtyBucket, TelemetryBatch, TelemetryEvent, TelemetryRollup, TelemetrySeries]),
    AgentsModule,
    RetentionModule.forFeature([
      ...RESOLUTIONS.map((resolution) => ({
        entity: TelemetryRollup,
        column: 'bucket' as const,
        days: (settings: LoadedSettings) => storedDays(settings.get(TelemetrySettings), resolution),
        where: { resolution },
      })),
      {
        entity: TelemetryBatch,
        column: 'createdAt',
        days: (settings) => settings.get(TelemetrySettings).retentionDays,
      },
      {
        entity: TelemetrySeries,
        column: ['lastSeen', 'lastReceived'],
        days: (settings) =>
          Math.max(
            settings.get(TelemetrySettings).retentionDays + 1,
            ...RESOLUTIONS.map((r) => storedDays(settings.get(TelemetrySettings), r)),
          ),
      },
    ]),
  ],
  controllers: [TelemetryController, MetricsController],
  providers: [
    TelemetryIngest,
    TelemetryWriter,
    TelemetryStore,
    SeriesCatalog,
    Partitions,
    EventQueries,
    MetricQueries,
    Discovery,
    Rollups,
    AgentTelemetry,
    TelemetryRetention,
    TelemetryWorker,
  ],
  exports: [TelemetryIngest, EventQueries],
})
export class TelemetryModule {}
