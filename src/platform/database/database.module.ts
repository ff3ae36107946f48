import { type DynamicModule, Module, type Type } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import pg from 'pg';
import { Settings } from '../config/index.js';
import { BULK_POOL } from './connection-needs.js';
import { dataSourceOptions, type Schema } from './data-source-options.js';
import { DatabaseClock } from './database-clock.js';
import { Database } from './database.js';
import { declaredTables } from './declared-tables.js';
import { sessionOptions } from './session-options.js';

@Module({})
export class DatabaseModule {
  /** The tables of a domain. Their repositories are `Database.repository(Entity)`, which follow the open transaction. */
  static forFeature(entities: Type[], { filledByMigrations = [] as string[] } = {}): DynamicModule {
    return declaredTables.declare({ entities, filledByMigrations });
  }

  /** `url` is the external server's or that of the embedded one, which is up before Nest starts. */
  static with(url: string, schema: Schema): DynamicModule {
    return {
      module: DatabaseModule,
      global: true,
      imports: [
        TypeOrmModule.forRootAsync({
          inject: [Settings],
          useFactory: (settings: Settings) => ({
            ...dataSourceOptions(url, schema, settings.dbPool, settings.sharesSessions),
            retryAttempts: 1,
          }),
        }),
      ],
      providers: [
        { provide: 'DATABASE_URL', useValue: url },
        {
          // For what needs a session of its own: LISTEN, the queues.
          provide: 'DATABASE_DIRECT_URL',
          inject: [Settings],
          useFactory: (settings: Settings) => settings.databaseDirectUrl ?? url,
        },
        {
          // Bulk writes (telemetry, audit batches) never wait behind requests for a connection, nor requests behind them.
          provide: 'BULK_POOL',
          inject: [Settings],
          useFactory: (settings: Settings) =>
            new pg.Pool({
              connectionString: url,
              max: BULK_POOL,
              application_name: 'nexus-bulk',
              connectionTimeoutMillis: 5000,
              keepAlive: true,
              keepAliveInitialDelayMillis: 10_000,
              ...sessionOptions(
                { statement_timeout: 15_000, lock_timeout: 5000, tcp_user_timeout: 20_000, TimeZone: 'UTC' },
                settings.sharesSessions,
              ),
            }),
        },
        Database,
        DatabaseClock,
      ],
      exports: [Database, DatabaseClock, 'DATABASE_URL', 'DATABASE_DIRECT_URL'],
    };
  }
}
