import { existsSync } from 'node:fs';
import path from 'node:path';
import { type EmbeddedPostgresOptions, startEmbeddedPostgres } from './embedded-postgres.js';
import { readText } from './embedded-process.js';
import { readPostmaster } from './embedded-server.js';
import { HomeInUseError, StartError } from './embedded-start-error.js';

interface EmbeddedDatabase {
  url: string;
  /** Whether a running Nexus uses it too. */
  shared: boolean;
  close(): Promise<void>;
}

/**
 * Gives access to the embedded database of a data folder: to that of the Nexus that runs there, else it is started until `close`.
 * @throws StartError when there is none, or when it cannot be reached
 */
export async function openEmbeddedDatabase(options: EmbeddedPostgresOptions): Promise<EmbeddedDatabase> {
  const { home } = options;
  const dir = readText(path.join(home, 'pg-location'))?.trim() ?? path.join(home, 'pg');
  if (!existsSync(dir)) throw new StartError(`There is no database in ${home}: set NEXUS_HOME to the data folder.`);
  try {
    const server = await startEmbeddedPostgres(options);
    return { url: server.url, shared: false, close: () => server.stop() };
  } catch (error) {
    if (!(error instanceof HomeInUseError)) throw error;
    const postmaster = readPostmaster(dir);
    const password = readText(path.join(home, 'pg-password'))?.trim();
    if (postmaster?.status !== 'ready' || !password) throw error;
    const url = `postgres://nexus:${password}@127.0.0.1:${postmaster.port}/nexus`;
    return { url, shared: true, close: () => Promise.resolve() };
  }
}
