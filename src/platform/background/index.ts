export { defineBackgroundTask, HandleTask, type TaskContext, type TaskDefinition } from './task-definition.js';
export { type BackgroundTask, type TaskLogLine, type TaskStatus } from './background-task.js';
export { BackgroundTasks } from './background-tasks.js';
export { BackgroundModule } from './background.module.js';
