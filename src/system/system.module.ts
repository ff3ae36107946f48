import { Module } from '@nestjs/common';
import { DatabaseModule } from '../platform/database/index.js';
import { HttpModule } from '../platform/http/index.js';
import { DocsController } from './docs.controller.js';
import { HealthService } from './health.service.js';
import { MetricsLease } from './metrics-reporter.entity.js';
import { MetricsReporter } from './metrics-reporter.js';
import { MetricsController } from './metrics.controller.js';
import { ProbesController } from './probes.controller.js';
import { SystemChecks } from './system-checks.js';
import { WriteProbe } from './write-probe.entity.js';

@Module({
  imports: [
    HttpModule.forFeature({ tags: { system: 'Health, metrics and this document' } }),
    DatabaseModule.forFeature([MetricsLease, WriteProbe]),
  ],
  controllers: [ProbesController, MetricsController, DocsController],
  providers: [HealthService, MetricsReporter, SystemChecks],
})
export class SystemModule {}
