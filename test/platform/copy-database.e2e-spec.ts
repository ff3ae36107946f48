import type { MigrationInterface } from 'typeorm';
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, inject, it } from 'vitest';
import { copyDatabase, migrate, StartError } from '../../src/platform/database/index.js';
import { schema } from '../../src/schema.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { execute } from './harness.js';

let source: TestDatabase;
/** Empty: without a single table. */
let target: string;
let name: string;

beforeEach(async () => {
  name = `test_${randomBytes(6).toString('hex')}`;
  await execute(inject('postgresUrl'), `CREATE DATABASE ${name}`);
  const url = new URL(inject('postgresUrl'));
  url.pathname = `/${name}`;
  target = url.href;
  source = await createTestDatabase();
  await execute(source.url, DATA);
});
afterEach(async () => {
  await source.drop();
  await execute(inject('postgresUrl'), `DROP DATABASE ${name} WITH (FORCE)`);
});

/** What is special about the tables of the server: partitions, references to the own table, generated columns, numbers, odd texts. */
const DATA = `
  CREATE TABLE telemetry_events_p20250102 PARTITION OF telemetry_events FOR VALUES FROM ('2025-01-02') TO ('2025-01-03');
  INSERT INTO telemetry_events (event_id, ts, received_at, value, event_type, source, data)
  SELECT gen_random_uuid(), ts, now(), 0.1::float8 / 3, 'system.metric', E'tab\\t, "quote" \\\\ ü \\n 😀', '{"a": [null, 1.50]}'
  FROM generate_series('2025-01-02'::timestamptz, '2025-01-04', '10 minutes') AS ts;
  INSERT INTO telemetry_series (key, source, metric_name, tags, event_type, first_seen, last_seen)
  VALUES (gen_random_uuid(), 's', 'm', '{}', 'e', 'infinity', '-infinity');
  DROP TABLE IF EXISTS audit_entries_p209901;
  CREATE TABLE audit_entries_p209901 PARTITION OF audit_entries FOR VALUES FROM ('2099-01-01') TO ('2099-02-01');
  CREATE TRIGGER audit_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries_p209901
    FOR EACH STATEMENT EXECUTE FUNCTION audit_entries_append_only();
  INSERT INTO audit_entries (at, actor_id, action, status_code)
  VALUES (now(), 'a', 'x', 200), ('2099-01-15', 'b', 'y', 201), ('2020-01-01', 'c', '', 204);
  INSERT INTO agents (id, name, agent_type, version, status, reported_labels, labels)
  VALUES (gen_random_uuid(), 'one', 'host', '1', 'offline', '{"a": "1"}', '{"b": "2"}');
  INSERT INTO commands (id, parent_id, command_type, target, executor, parameters, priority, timeout_seconds, status, created_by, created_at, timeline)
  VALUES ('6b9f9a3c-0000-4000-8000-000000000002', '6b9f9a3c-0000-4000-8000-000000000001', 'c', 't', 'link', '{}', 1, 1, 'queued', 'u', now(), '[]'),
    ('6b9f9a3c-0000-4000-8000-000000000001', NULL, 'c', 't', 'link', '{}', 1, 1, 'queued', 'u', now(), '[]');
  UPDATE event_store_marker SET value = 7;
  UPDATE command_types SET enabled = false WHERE type = 'deploy.app';
  INSERT INTO events (id, type, data, actor_id) VALUES (gen_random_uuid(), 'task.created', '{}', 'user_1');
  SELECT nextval('events_seq'), nextval('events_seq')`;

/** Everything that is to be equal afterwards. */
async function contents(url: string): Promise<unknown> {
  const tables = await execute<{ table: string }>(
    url,
    `SELECT c.oid::regclass::text AS table FROM pg_class c
     WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND relname NOT IN ('nexus_migrations', 'typeorm_metadata') ORDER BY 1`,
  );
  const rows = [];
  for (const { table } of tables) {
    rows.push([table, await execute(url, `SELECT t::text AS row FROM ${table} t ORDER BY 1`)]);
  }
  const sequences = await execute(
    url,
    `SELECT sequencename, last_value FROM pg_sequences
     WHERE schemaname = 'public' AND sequencename NOT LIKE 'nexus_migrations%' ORDER BY 1`,
  );
  const structure = await execute(
    url,
    `SELECT c.oid::regclass::text AS table, pg_get_expr(relpartbound, c.oid) AS bound,
       ARRAY(SELECT pg_get_triggerdef(t.oid, true) FROM pg_trigger t WHERE tgrelid = c.oid AND NOT tgisinternal) AS triggers
     FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1`,
  );
  return { rows, sequences, structure };
}

it('copies every row, number, partition and trigger into an empty database', async () => {
  const before = await contents(source.url);
  const { rows } = await copyDatabase(source.url, target, schema);

  expect(rows).toBeGreaterThan(290);
  expect(await contents(target)).toEqual(before);
  await expect(execute(target, 'DELETE FROM audit_entries_p209901')).rejects.toThrow(/append/);
  const [{ id }] = await execute<{ id: string }>(
    target,
    `INSERT INTO audit_entries (at, actor_id, action, status_code) VALUES (now(), 'd', 'z', 200) RETURNING id`,
  );
  const [{ max }] = await execute<{ max: string }>(source.url, 'SELECT max(id) FROM audit_entries');
  expect(Number(id)).toBe(Number(max) + 1);
});

it('refuses a target that holds data, and leaves it as it was', async () => {
  await migrate(target, schema);
  await execute(target, `INSERT INTO write_probe (one) VALUES (true) ON CONFLICT DO NOTHING`);
  await execute(target, `INSERT INTO schedule_runs (job) VALUES ('x')`);
  const before = await contents(target);
  await expect(copyDatabase(source.url, target, schema)).rejects.toThrow(/is not empty/);
  expect(await contents(target)).toEqual(before);
});

class AddSomething9999999999999 implements MigrationInterface {
  readonly name = 'AddSomething9999999999999';
  up(): Promise<void> {
    return Promise.resolve();
  }
  down(): Promise<void> {
    return Promise.resolve();
  }
}

it('refuses the tables of another program and another version on either side', async () => {
  await execute(target, 'CREATE TABLE theirs (n int)');
  await expect(copyDatabase(source.url, target, schema)).rejects.toThrow(
    new StartError('The database to copy to is not empty (table theirs): make a new one.'),
  );
  await execute(target, 'DROP TABLE theirs');
  await expect(copyDatabase(target, source.url, schema)).rejects.toThrow(/not of this version/);

  const other = { ...schema, migrations: [...schema.migrations, AddSomething9999999999999] };
  await migrate(target, other);
  await expect(copyDatabase(source.url, target, schema)).rejects.toThrow(/another version of Nexus/);
  await expect(copyDatabase(target, source.url, schema)).rejects.toThrow(/not of this version/);
});

it('leaves nothing of a copy that failed, and can then be run again', async () => {
  await migrate(target, schema);
  const before = await contents(target);
  await execute(target, `ALTER TABLE telemetry_events ADD CONSTRAINT never CHECK (source = '')`);
  await expect(copyDatabase(source.url, target, schema)).rejects.toThrow(/violates check constraint "never"/);
  await execute(target, 'ALTER TABLE telemetry_events DROP CONSTRAINT never');
  const strip = (all: unknown): unknown => ({ ...(all as object), sequences: undefined });
  expect(strip(await contents(target))).toEqual(strip(before));

  await copyDatabase(source.url, target, schema);
  expect(await contents(target)).toEqual(await contents(source.url));
});
