import { randomBytes } from 'node:crypto';
import type { DynamicModule, INestApplicationContext, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import pg from 'pg';
import { DataSource } from 'typeorm';
import { BackgroundModule } from '../../src/platform/background/index.js';
import { ConfigModule } from '../../src/platform/config/index.js';
import { CryptoModule } from '../../src/platform/crypto/index.js';
import {
  Database,
  DatabaseModule,
  dataSourceOptions,
  type Schema,
  schemaOf,
} from '../../src/platform/database/index.js';
import { EventsModule } from '../../src/platform/events/index.js';
import { FeaturesModule } from '../../src/platform/features/index.js';
import { JobsModule } from '../../src/platform/jobs/index.js';
import { Logger, ObservabilityModule } from '../../src/platform/observability/index.js';
import { RealtimeModule } from '../../src/platform/realtime/index.js';
import { readSettings } from '../../src/settings.js';
import { RetentionModule } from '../../src/platform/retention/index.js';
import { createTestDatabase } from '../support/test-database.js';

export const silent = new Logger('silent');

/** Those that declare tables and what of them is deleted. The tables are those of the template. */
const features = [EventsModule, BackgroundModule];
const schema = schemaOf(features, []);

export interface OpenDatabase {
  db: Database;
  url: string;
  /** A connection of the test's own, beside those of `db`. */
  beside: pg.Client;
  close(): Promise<void>;
}

/** The real `Database` on a fresh database, with a pool of `poolSize` and these entities besides those of the platform. */
export async function openDatabase(poolSize = 4, entities: Schema['entities'] = []): Promise<OpenDatabase> {
  const database = await createTestDatabase();
  const { url } = database;
  const source = await new DataSource(
    dataSourceOptions(url, { ...schema, entities: [...schema.entities, ...entities] }, poolSize),
  ).initialize();
  const bulk = new pg.Pool({ connectionString: url, max: 2 });
  bulk.on('error', () => undefined);
  const beside = new pg.Client({ connectionString: url });
  beside.on('error', () => undefined);
  await beside.connect();
  return {
    db: new Database(source, url, bulk, silent),
    url,
    beside,
    close: async () => {
      await Promise.allSettled([source.destroy(), bulk.end(), beside.end()]);
      await database.drop();
    },
  };
}

/** One statement on a connection of its own. */
export async function execute<Row extends pg.QueryResultRow>(url: string, sql: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Row>(sql)).rows;
  } finally {
    await client.end();
  }
}

class Root {}

const MASTER_KEY = `test:${randomBytes(32).toString('base64')}`;

/** One process of the platform: configuration, database, jobs and events, with `providers` as its domain. */
export async function startPlatform(
  url: string,
  providers: DynamicModule['providers'],
  env: Record<string, string> = {},
  declared: DynamicModule[] = [],
): Promise<INestApplicationContext> {
  const settings = readSettings({
    NEXUS_LOG_LEVEL: 'silent',
    NEXUS_MASTER_KEYS: MASTER_KEY,
    ...env,
    DATABASE_URL: url,
  });
  const root: DynamicModule = {
    module: Root as Type,
    imports: [
      ConfigModule.with(settings),
      FeaturesModule.with([...features, ...declared]),
      ObservabilityModule,
      CryptoModule,
      DatabaseModule.with(url, schema),
      RealtimeModule,
      JobsModule,
      RetentionModule,
      EventsModule,
      BackgroundModule,
    ],
    providers,
  };
  return NestFactory.createApplicationContext(root, { logger: false, abortOnError: false });
}
