import { Global, Module } from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import { DatabaseModule } from '../database/index.js';
import { BackgroundTaskLog } from './background-task-log.entity.js';
import { BackgroundTask } from './background-task.entity.js';
import { BackgroundTasks } from './background-tasks.js';
import { TaskRunner } from './task-runner.js';
import { TaskStore } from './task-store.js';

@Global()
@Module({
  imports: [DatabaseModule.forFeature([BackgroundTaskLog, BackgroundTask]), DiscoveryModule],
  providers: [BackgroundTasks, TaskRunner, TaskStore],
  exports: [BackgroundTasks],
})
export class BackgroundModule {}
