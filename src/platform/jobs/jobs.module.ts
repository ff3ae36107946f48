import { type DynamicModule, Global, Module } from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import { Settings } from '../config/index.js';
import { DatabaseModule } from '../database/index.js';
import { FrequentSchedules } from './frequent-schedules.js';
import { type AnyJob, declaredJobs } from './job-definition.js';
import { JobQueue } from './job-queue.js';
import { JobRegistry } from './job-registry.js';
import { JobSchedules } from './job-schedules.js';
import { JobWorkers } from './job-workers.js';
import { postgresBackend, redisBackend } from './queue-backend.js';
import { ScheduleClaim } from './schedule-claim.entity.js';
import { ScheduleRun } from './schedule-run.entity.js';
import { StoreMarker } from './store-marker.js';

@Global()
@Module({
  imports: [DatabaseModule.forFeature([ScheduleClaim, ScheduleRun]), DiscoveryModule],
  providers: [
    {
      provide: 'QUEUE_BACKEND',
      inject: [Settings, 'DATABASE_DIRECT_URL'],
      useFactory: (settings: Settings, url: string) =>
        settings.redisUrl ? redisBackend(settings.redisUrl) : postgresBackend(url),
    },
    JobRegistry,
    JobQueue,
    JobSchedules,
    FrequentSchedules,
    JobWorkers,
    StoreMarker,
  ],
  exports: [JobRegistry, JobQueue, StoreMarker],
})
export class JobsModule {
  /** The jobs of a domain: each must have its handler when the server starts. */
  static forFeature(jobs: readonly AnyJob[]): DynamicModule {
    return declaredJobs.declare(jobs);
  }
}
