import type { DataSourceOptions, EntityTarget, MigrationInterface, ObjectLiteral } from 'typeorm';
import { PreparingClient } from './prepared.js';

/** Entities and migrations of the whole schema, in order; `src/schema.ts` holds the one list. */
export interface Schema {
  entities: readonly EntityTarget<ObjectLiteral>[];
  migrations: readonly (new () => MigrationInterface)[];
}

/** Options that every connection to the application's database shares. */
export function dataSourceOptions(url: string, schema: Schema, poolSize = 2): DataSourceOptions {
  return {
    type: 'postgres',
    url,
    entities: [...schema.entities] as (new () => ObjectLiteral)[],
    migrations: [...schema.migrations],
    migrationsTableName: 'nexus_migrations',
    migrationsTransactionMode: 'each',
    synchronize: false,
    poolSize,
    applicationName: 'nexus',
    connectTimeoutMS: 5000,
    extra: {
      Client: PreparingClient,
      // A request must not hang on the database: see the timeouts of docs/operations.md.
      options:
        '-c statement_timeout=5000 -c lock_timeout=2000 -c idle_in_transaction_session_timeout=10000 -c TimeZone=UTC',
      keepAlive: true,
      idleTimeoutMillis: 30_000,
    },
  };
}
