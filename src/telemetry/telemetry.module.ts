import { Module } from '@nestjs/common';
import { AgentsModule } from '../agents/index.js';
import { AgentTelemetry } from './agent-telemetry.js';
import { Discovery } from './discovery.js';
import { EventQueries } from './event-queries.js';
import { MetricQueries } from './metric-queries.js';
import { MetricsController } from './metrics.controller.js';
import { Partitions } from './partitions.js';
import { Rollups } from './rollups.js';
import { SeriesCatalog } from './series-catalog.js';
import { TelemetryController } from './telemetry.controller.js';
import { TelemetryIngest } from './telemetry-ingest.js';
import { TelemetryRetention } from './telemetry-retention.js';
import { TelemetryStore } from './telemetry-store.js';
import { TelemetryWorker } from './telemetry.worker.js';
import { TelemetryWriter } from './telemetry-writer.js';

@Module({
  imports: [AgentsModule],
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
