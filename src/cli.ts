import { readDotEnv } from './dot-env.js';
import { ConfigError, Settings } from './platform/config/index.js';
import { copyDatabase, openEmbeddedDatabase, StartError } from './platform/database/index.js';
import { checkDatabase } from './preflight.js';
import { schema } from './schema.js';
import { readSettings } from './settings.js';

const USAGE = `Usage: npm run nexus -- db copy postgres://USER:PASSWORD@HOST:PORT/DATABASE
Copies all data of this server into an empty PostgreSQL database. The password may be in PGPASSWORD instead.`;

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

async function main([group, action, target, ...more]: string[]): Promise<void> {
  const isUrl = /^postgres(ql)?:\/\//.test(target ?? '');
  if (group !== 'db' || action !== 'copy' || !isUrl || more.length > 0) throw new StartError(USAGE);
  readDotEnv();
  const settings = readSettings(process.env).get(Settings);
  await checkDatabase(target, settings, 'the URL after "db copy"');
  const given = settings.databaseDirectUrl ?? settings.databaseUrl;
  const source =
    given === undefined
      ? await openEmbeddedDatabase({ home: settings.home, binDir: settings.pgBin, log: say })
      : { url: given, shared: false, close: () => Promise.resolve() };
  const stop = (): void => void source.close().finally(() => process.exit(130));
  process.once('SIGINT', stop).once('SIGTERM', stop);
  try {
    if (source.shared) say('Nexus is running: what it writes from now on is not copied.');
    const { tables, rows } = await copyDatabase(source.url, target, schema);
    say(`Copied ${rows} rows of ${tables} tables.`);
  } finally {
    await source.close();
  }
}

main(process.argv.slice(2)).catch((error: unknown) => {
  const expected = error instanceof StartError || error instanceof ConfigError;
  say(expected ? error.message : `The copy failed: ${error instanceof Error ? error.stack : String(error)}`);
  process.exitCode = 1;
});
