import { Global, Module } from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import { BackgroundTasks } from './background-tasks.js';
import { TaskRunner } from './task-runner.js';
import { TaskStore } from './task-store.js';

@Global()
@Module({
  imports: [DiscoveryModule],
  providers: [BackgroundTasks, TaskRunner, TaskStore],
  exports: [BackgroundTasks],
})
export class BackgroundModule {}
