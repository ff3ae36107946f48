export { defineJob, type JobDefinition, type JobContext } from './job-definition.js';
export { HandleJob } from './handle-job.js';
export { PostponeJob } from './postpone-job.js';
export { JobQueue, type EnqueueOptions } from './job-queue.js';
export { JobRegistry } from './job-registry.js';
export { StoreMarker } from './store-marker.js';
export { QUEUE_SCHEMA } from './queue-backend.js';
export { JobsModule } from './jobs.module.js';
export { appendMetadata, discoverMethods } from './discover-methods.js';
