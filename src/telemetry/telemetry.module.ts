import { Module } from '@nestjs/common';
import { AgentsModule } from '../agents/index.js';
import { DatabaseModule } from '../platform/database/index.js';
import { HttpModule } from '../platform/http/index.js';
import { JobsModule } from '../platform/jobs/index.js';
import { AgentTelemetry } from './agent-telemetry.js';
import { DirtyBucket } from './dirty-bucket.entity.js';
import { Discovery } from './discovery.js';
import { EventQueries } from './event-queries.js';
import { MetricQueries } from './metric-queries.js';
import { MetricsController } from './metrics.controller.js';
import { Partitions } from './partitions.js';
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
import { KeepTelemetryPartitions, RollUpTelemetry } from './telemetry.jobs.js';
import { TelemetryWorker } from './telemetry.worker.js';

@Module({
  imports: [
    JobsModule.forFeature([KeepTelemetryPartitions, RollUpTelemetry]),
    HttpModule.forFeature({ tags: { telemetry: 'Send, query and roll up events and metrics' } }),
    DatabaseModule.forFeature([DirtyBucket, TelemetryBatch, TelemetryEvent, TelemetryRollup, TelemetrySeries]),
    AgentsModule,
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
