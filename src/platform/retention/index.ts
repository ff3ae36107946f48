export { RetentionModule } from './retention.module.js';
export { Retention, type RetentionRun } from './retention.js';
