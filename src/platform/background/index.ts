export { defineBackgroundTask, HandleTask, type TaskContext, type TaskDefinition } from './task-definition.js';
export type { BackgroundTask } from './background-task.entity.js';
export type { TaskStatus } from './background-task.js';
export { BackgroundTasks } from './background-tasks.js';
export { BackgroundModule } from './background.module.js';
