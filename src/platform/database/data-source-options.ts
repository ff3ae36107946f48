import type { DataSourceOptions, EntityTarget, MigrationInterface, ObjectLiteral } from 'typeorm';
import { sessionOptions } from './session-options.js';
import { SnakeNaming } from './snake-naming.js';

/** Entities and migrations of the whole schema, in order; `src/schema.ts` holds the one list. */
export interface Schema {
  entities: readonly EntityTarget<ObjectLiteral>[];
  migrations: readonly (new () => MigrationInterface)[];
  /** Tables in which the migrations leave rows: all others are empty before the first start. */
  filledByMigrations: readonly string[];
}

/** A request must not hang on the database: see the timeouts of docs/operations.md. */
const REQUEST_SESSION = {
  statement_timeout: 5000,
  lock_timeout: 2000,
  idle_in_transaction_session_timeout: 10_000,
  tcp_user_timeout: 20_000,
  TimeZone: 'UTC',
};

/** Options that every connection to the application's database shares. */
export function dataSourceOptions(
  url: string,
  schema: Schema,
  poolSize = 2,
  sharesSessions = false,
): DataSourceOptions {
  return {
    type: 'postgres',
    url,
    entities: [...schema.entities] as (new () => ObjectLiteral)[],
    migrations: [...schema.migrations],
    migrationsTableName: 'nexus_migrations',
    migrationsTransactionMode: 'each',
    namingStrategy: new SnakeNaming(),
    // Ids come from PostgreSQL's own gen_random_uuid(), which needs no extension since version 13.
    uuidExtension: 'pgcrypto',
    installExtensions: false,
    synchronize: false,
    poolSize,
    applicationName: 'nexus',
    connectTimeoutMS: 5000,
    extra: {
      ...sessionOptions(REQUEST_SESSION, sharesSessions),
      keepAlive: true,
      keepAliveInitialDelayMillis: 10_000,
      idleTimeoutMillis: 30_000,
    },
  };
}
