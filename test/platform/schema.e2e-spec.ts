import { readdirSync } from 'node:fs';
import { DataSource } from 'typeorm';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { migrations } from '../../migrations/index.js';
import { dataSourceOptions, migrate, StartError } from '../../src/platform/database/index.js';
import { schema } from '../../src/schema.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { execute } from './harness.js';

let database: TestDatabase;
let source: DataSource;

beforeAll(async () => {
  database = await createTestDatabase('template1');
  await migrate(database.url, schema);
  source = await new DataSource(dataSourceOptions(database.url, schema)).initialize();
});
afterAll(async () => {
  await source.destroy();
  await database.drop();
});

it('is made by the migrations as the entities describe it', async () => {
  const { upQueries } = await source.driver.createSchemaBuilder().log();
  expect(upQueries.map(({ query }) => query)).toEqual([]);
});

it('has an entity for every table, with every column', async () => {
  const rows = await execute<{ table: string; columns: string[] }>(
    database.url,
    `SELECT relname::text AS table,
       ARRAY(SELECT attname::text FROM pg_attribute
             WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped ORDER BY attname) AS columns
     FROM pg_class c
     WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
       AND relname NOT IN ('nexus_migrations', 'typeorm_metadata')`,
  );
  const described = source.entityMetadatas.map(({ tableName, columns }) => [
    tableName,
    columns.map((column) => column.databaseName).sort(),
  ]);
  expect(Object.fromEntries(described)).toEqual(
    Object.fromEntries(rows.map(({ table, columns }) => [table, [...columns].sort()])),
  );
});

it('has every index that an entity names, and no other', async () => {
  const rows = await execute<{ index: string }>(
    database.url,
    `SELECT c.relname::text AS index FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = indrelid
     WHERE c.relnamespace = 'public'::regnamespace AND NOT t.relispartition
       AND t.relname NOT IN ('nexus_migrations', 'typeorm_metadata')
       AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)`,
  );
  const named = source.entityMetadatas.flatMap(({ indices }) => indices.map(({ name }) => name));
  expect(named.sort()).toEqual(rows.map(({ index }) => index).sort());
});

it('lists every file of migrations/, oldest first', () => {
  const files = readdirSync(new URL('../../migrations', import.meta.url))
    .filter((file) => file !== 'index.ts')
    .sort();
  const listed = migrations.map((Migration) => /\d+$/.exec(Migration.name)?.[0]);
  expect(files.map((file) => /^(\d{13})-[a-z0-9-]+\.ts$/.exec(file)?.[1])).toEqual(listed);
});

it('of before the first release is refused with one sentence', async () => {
  const old = await createTestDatabase('template1');
  try {
    await execute(
      old.url,
      `CREATE TABLE nexus_migrations (id serial PRIMARY KEY, timestamp bigint NOT NULL, name varchar NOT NULL)`,
    );
    await execute(
      old.url,
      `INSERT INTO nexus_migrations (timestamp, name) VALUES (1763700000000, 'CreateEvents1763700000000')`,
    );
    const refused = migrate(old.url, schema);
    await expect(refused).rejects.toBeInstanceOf(StartError);
    await expect(refused).rejects.toThrow('from before its first release, which cannot be carried over');
  } finally {
    await old.drop();
  }
});
