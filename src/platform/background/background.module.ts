import { type DynamicModule, Global, Module } from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import { DatabaseModule } from '../database/index.js';
import { JobsModule } from '../jobs/index.js';
import { BackgroundTaskLog } from './background-task-log.entity.js';
import { Settings } from '../config/index.js';
import { RetentionModule } from '../retention/index.js';
import { BackgroundTask } from './background-task.entity.js';
import { BackgroundTasks } from './background-tasks.js';
import { SweepTasks } from './background.jobs.js';
import { type AnyTask, declaredTasks } from './task-definition.js';
import { TaskRunner } from './task-runner.js';
import { TaskStore } from './task-store.js';

@Global()
@Module({
  imports: [
    JobsModule.forFeature([SweepTasks]),
    DatabaseModule.forFeature([BackgroundTaskLog, BackgroundTask]),
    DiscoveryModule,
    RetentionModule.forFeature([
      { entity: BackgroundTask, column: 'finishedAt', days: (settings) => settings.get(Settings).taskRetentionDays },
    ]),
  ],
  providers: [BackgroundTasks, TaskRunner, TaskStore],
  exports: [BackgroundTasks],
})
export class BackgroundModule {
  /** The kinds of background tasks of a domain: each must have its handler when the server starts. */
  static forFeature(kinds: readonly AnyTask[]): DynamicModule {
    return declaredTasks.declare(kinds);
  }
}
