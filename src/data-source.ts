import type { DataSource } from 'typeorm';
import { readDotEnv } from './dot-env.js';
import { Settings } from './platform/config/index.js';
import { migrationSource, startEmbeddedPostgres } from './platform/database/index.js';
import { schema } from './schema.js';
import { readSettings } from './settings.js';

/**
 * The database of this installation for the TypeORM CLI (`npm run migration:show`): the one of `DATABASE_URL`, else the embedded
 * one, which runs as long as the CLI is connected. A running server holds the embedded one for itself and must be stopped first.
 */
async function open(): Promise<DataSource> {
  readDotEnv();
  const settings = readSettings(process.env).get(Settings);
  const given = settings.databaseDirectUrl ?? settings.databaseUrl;
  if (given !== undefined) return migrationSource(given, schema);
  const server = await startEmbeddedPostgres({ home: settings.home, binDir: settings.pgBin });
  const source = migrationSource(server.url, schema);
  const disconnect = source.destroy.bind(source);
  source.destroy = async () => {
    await disconnect();
    await server.stop();
  };
  return source;
}

export default await open();
