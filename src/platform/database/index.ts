export { Database, type Tx } from './database.js';
export { DatabaseModule } from './database.module.js';
export { dataSourceOptions, type Schema } from './data-source-options.js';
export { connectionsNeeded, isOutOfConnections, QUEUE_POOL, WORKER_POOL, WORKER_QUEUES } from './connection-needs.js';
export { guardPool } from './guard-pool.js';
export { prepared } from './prepared.js';
export { RangePartitions } from './range-partitions.js';
export { migrate } from './migrate.js';
export { StartError, startEmbeddedPostgres, type EmbeddedPostgres } from './embedded-postgres.js';
