import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Client } from 'pg';
import type { TestProject } from 'vitest/node';
import { type EmbeddedPostgres, migrate, startEmbeddedPostgres } from '../../src/platform/database/index.js';
import { schema } from '../../src/schema.js';

declare module 'vitest' {
  interface ProvidedContext {
    /** Server of this run, as a role that may create databases. */
    postgresUrl: string;
    /** Migrated database on it that test databases are cloned from. */
    postgresTemplate: string;
  }
}

const PREFIX = 'nexus-test-run-';

/** One PostgreSQL for the whole run: `TEST_DATABASE_URL` when set, else an embedded one that goes when the run ends. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env['TEST_DATABASE_URL'];
  const own = given ? undefined : await startCluster();
  const url = given ?? own!.server.url;
  const template = `nexus_template_${randomBytes(4).toString('hex')}`;
  const drop = (): Promise<void> =>
    run(url, `ALTER DATABASE ${template} IS_TEMPLATE false`, `DROP DATABASE ${template}`);
  const end = async (): Promise<void> => {
    if (!own) return drop();
    await own.server.stop();
    try {
      rmSync(own.folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    } catch (error) {
      // Something of the server's still ends in there; what the tests found is not changed by it.
      console.warn(`${own.folder} is left behind: ${String(error)}`);
    }
  };
  try {
    await run(url, `CREATE DATABASE ${template}`);
    await migrate(withDatabase(url, template), schema);
    // Nobody may connect, so that it can be cloned at any time.
    await run(url, `ALTER DATABASE ${template} IS_TEMPLATE true ALLOW_CONNECTIONS false`);
  } catch (error) {
    await own?.server.stop();
    throw error;
  }
  project.provide('postgresUrl', url);
  project.provide('postgresTemplate', template);
  return end;
}

/** The URL of another database on the same server. */
function withDatabase(url: string, name: string): string {
  const other = new URL(url);
  other.pathname = `/${name}`;
  return other.href;
}

async function startCluster(): Promise<{ server: EmbeddedPostgres; folder: string }> {
  await endAbandonedRuns();
  const folder = mkdtempSync(path.join(os.tmpdir(), PREFIX));
  // mkdtemp makes 0700, which the account that runs the server for root could not cross.
  chmodSync(folder, 0o755);
  const extraSettings = {
    fsync: 'off',
    full_page_writes: 'off',
    synchronous_commit: 'off',
    // A file may hold several servers of some fifty connections each, and those of killed ones linger.
    max_connections: '600',
  };
  return { server: await startEmbeddedPostgres({ home: path.join(folder, 'home'), extraSettings }), folder };
}

/** A run that was killed has left its server; its folder can be taken, while that of a live run cannot. */
async function endAbandonedRuns(): Promise<void> {
  for (const name of readdirSync(os.tmpdir()).filter((n) => n.startsWith(PREFIX))) {
    const folder = path.join(os.tmpdir(), name);
    const home = path.join(folder, 'home');
    if (!existsSync(path.join(home, 'pg'))) continue;
    try {
      await (await startEmbeddedPostgres({ home })).stop();
      rmSync(folder, { recursive: true, force: true });
    } catch {
      // Another run's.
    }
  }
}

async function run(url: string, ...statements: string[]): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}
