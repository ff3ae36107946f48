import { Global, Module } from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import { Settings } from '../config/index.js';
import { JobQueue } from './job-queue.js';
import { JobRegistry } from './job-registry.js';
import { JobWorkers } from './job-workers.js';
import { postgresBackend, redisBackend } from './queue-backend.js';

@Global()
@Module({
  imports: [DiscoveryModule],
  providers: [
    {
      provide: 'QUEUE_BACKEND',
      inject: [Settings, 'DATABASE_DIRECT_URL'],
      useFactory: (settings: Settings, url: string) =>
        settings.redisUrl ? redisBackend(settings.redisUrl) : postgresBackend(url),
    },
    JobRegistry,
    JobQueue,
    JobWorkers,
  ],
  exports: [JobRegistry, JobQueue],
})
export class JobsModule {}
