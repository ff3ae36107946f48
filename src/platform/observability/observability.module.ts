import { Global, Module } from '@nestjs/common';
import { Settings } from '../config/index.js';
import { HealthRegistry } from './health-registry.js';
import { Logger } from './logger.js';
import { Metrics } from './metrics.js';

@Global()
@Module({
  providers: [
    { provide: Logger, inject: [Settings], useFactory: (settings: Settings) => new Logger(settings.logLevel) },
    Metrics,
    HealthRegistry,
  ],
  exports: [Logger, Metrics, HealthRegistry],
})
export class ObservabilityModule {}
