import pg from 'pg';
import { DataSource, type MigrationInterface, type QueryRunner } from 'typeorm';
import { afterEach, beforeEach, expect, it } from 'vitest';
import {
  advisoryLock,
  dataSourceOptions,
  migrate,
  type Schema,
  StartError,
} from '../../src/platform/database/index.js';
import { schema } from '../../src/schema.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { execute } from './harness.js';

const LOCK = advisoryLock('database.migrate');
let database: TestDatabase;
let url: string;

beforeEach(async () => {
  database = await createTestDatabase('template1');
  url = database.url;
});
afterEach(() => database.drop());

class Slow9999999999999 implements MigrationInterface {
  readonly name = 'Slow9999999999999';
  async up(db: QueryRunner): Promise<void> {
    await db.query('CREATE TABLE slow (n int)');
    await db.query('SELECT pg_sleep(1)');
  }
  down(): Promise<void> {
    return Promise.resolve();
  }
}

class Broken9999999999999 implements MigrationInterface {
  readonly name = 'Broken9999999999999';
  async up(db: QueryRunner): Promise<void> {
    await db.query('CREATE TABLE half (n int)');
    await db.query('SELECT no_such_thing()');
  }
  down(): Promise<void> {
    return Promise.resolve();
  }
}

const plus = (...migrations: Schema['migrations']): Schema => ({
  ...schema,
  migrations: [...schema.migrations, ...migrations],
});

it('runs every migration once, however many replicas start at the same time', async () => {
  const runs = await Promise.all([migrate(url, schema), migrate(url, schema), migrate(url, schema)]);
  expect(runs.flat().sort()).toEqual(schema.migrations.map((M) => M.name).sort());
  expect(await migrate(url, schema)).toEqual([]);
});

it('lets a migration take its time, whatever the timeouts of the database are', async () => {
  await execute(url, `ALTER DATABASE ${new URL(url).pathname.slice(1)} SET statement_timeout = '300ms'`);
  expect(await migrate(url, plus(Slow9999999999999))).toContain('Slow9999999999999');
});

it('leaves nothing of a migration that fails, and goes on from there', async () => {
  await expect(migrate(url, plus(Broken9999999999999))).rejects.toThrow('no_such_thing');
  expect(await execute(url, `SELECT 1 FROM pg_tables WHERE tablename = 'half'`)).toEqual([]);
  expect(await migrate(url, schema)).toEqual([]);
});

it('refuses a schema that is newer than the program, by name', async () => {
  await migrate(url, plus(Slow9999999999999));
  const refused = migrate(url, schema);
  await expect(refused).rejects.toBeInstanceOf(StartError);
  await expect(refused).rejects.toThrow('newer version of Nexus (it has Slow9999999999999)');
});

it('does not wait for good for another replica', async () => {
  const other = new pg.Client({ connectionString: url });
  await other.connect();
  await other.query('SELECT pg_advisory_lock($1)', [LOCK]);
  const waiting = migrate(url, schema, 300);
  await expect(waiting).rejects.toBeInstanceOf(StartError);
  await expect(waiting).rejects.toThrow('Another Nexus has been migrating');
  await other.end();
  await expect(migrate(url, schema, 5000)).resolves.toHaveLength(schema.migrations.length);
});

it('can be undone and done again, step by step', async () => {
  await migrate(url, schema);
  const source = await new DataSource(dataSourceOptions(url, schema)).initialize();
  for (let i = 0; i < schema.migrations.length; i++) await source.undoLastMigration();
  const left = await source.query<unknown[]>(
    `SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'S') AND relname NOT LIKE 'nexus_migrations%' AND relname <> 'typeorm_metadata'`,
  );
  await source.destroy();
  expect(left).toEqual([]);
  expect(await migrate(url, schema)).toHaveLength(schema.migrations.length);
});
