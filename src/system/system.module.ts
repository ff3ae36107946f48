import { Module } from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import { DocsController } from './docs.controller.js';
import { HealthService } from './health.service.js';
import { MetricsController } from './metrics.controller.js';
import { ProbesController } from './probes.controller.js';
import { MetricsReporter } from './metrics-reporter.js';
import { Reencryption } from './reencryption.js';
import { ReencryptionsController } from './reencryptions.controller.js';
import { ReencryptionsService } from './reencryptions.service.js';
import { SystemChecks } from './system-checks.js';

@Module({
  imports: [DiscoveryModule],
  controllers: [ProbesController, MetricsController, DocsController, ReencryptionsController],
  providers: [HealthService, MetricsReporter, Reencryption, ReencryptionsService, SystemChecks],
})
export class SystemModule {}
