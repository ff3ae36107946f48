import pg from 'pg';
import { StartError } from './embedded-start-error.js';

/**
 * Empties a database: these schemas are dropped with all that is in them. The next start makes what it needs anew.
 * @throws StartError while a server is connected to it
 */
export async function resetDatabase(url: string, schemas: readonly string[]): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5000 });
  await client.connect();
  try {
    const { rowCount } = await client.query(
      `SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'nexus%'`,
    );
    if (rowCount) throw new StartError('Nexus is running on this database: stop it first.');
    const names = schemas.map((name) => pg.escapeIdentifier(name));
    await client.query(`DROP SCHEMA IF EXISTS ${names.join(', ')} CASCADE; CREATE SCHEMA public`);
  } finally {
    await client.end();
  }
}
