import { Module } from '@nestjs/common';
import { DocsController } from './docs.controller.js';
import { HealthService } from './health.service.js';
import { MetricsController } from './metrics.controller.js';
import { ProbesController } from './probes.controller.js';
import { MetricsReporter } from './metrics-reporter.js';
import { SystemChecks } from './system-checks.js';

@Module({
  controllers: [ProbesController, MetricsController, DocsController],
  providers: [HealthService, MetricsReporter, SystemChecks],
})
export class SystemModule {}
