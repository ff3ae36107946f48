import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { inject } from 'vitest';

/** A migrated, empty database of its own. */
export interface TestDatabase {
  readonly url: string;
  /** Removes it, ending whatever is still connected. */
  drop(): Promise<void>;
}

/** The template is being cloned, or somebody is still connected. */
const IN_USE = '55006';
/** The server itself is at work in the database (autovacuum); it must be waited for. */
const MAY_NOT_END = '42501';
const TRIES = 100;

/** Clones the migrated template of the run, which takes some 50 ms, or another template such as the empty `template1`. */
export async function createTestDatabase(template = inject('postgresTemplate')): Promise<TestDatabase> {
  const server = inject('postgresUrl');
  const name = `test_${randomBytes(6).toString('hex')}`;
  await patiently(server, `CREATE DATABASE ${name} TEMPLATE ${template}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  return { url: url.href, drop: () => patiently(server, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`) };
}

async function patiently(server: string, statement: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await execute(server, statement);
      return;
    } catch (error) {
      const { code = '' } = error as { code?: string };
      if (![IN_USE, MAY_NOT_END].includes(code) || attempt === TRIES) throw error;
      await delay(100);
    }
  }
}

async function execute(url: string, statement: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
