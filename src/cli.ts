import { readDotEnv } from './dot-env.js';
import { ConfigError, Settings } from './platform/config/index.js';
import { copyDatabase, openEmbeddedDatabase, resetDatabase, StartError } from './platform/database/index.js';
import { QUEUE_SCHEMA } from './platform/jobs/index.js';
import { checkDatabase } from './preflight.js';
import { schema } from './schema.js';
import { readSettings } from './settings.js';

const USAGE = `Usage: npm run nexus -- db copy postgres://USER:PASSWORD@HOST:PORT/DATABASE
Copies all data of this server into an empty PostgreSQL database. The password may be in PGPASSWORD instead.

       npm run nexus -- db reset --yes
Deletes all data of this server; the next start begins anew.`;

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

async function main(args: string[]): Promise<void> {
  const [command, argument] = [args.slice(0, 2).join(' '), args[2] as string | undefined];
  const isCopy = command === 'db copy' && /^postgres(ql)?:\/\//.test(argument ?? '');
  const isReset = command === 'db reset' && argument === '--yes';
  if (args.length !== 3 || (!isCopy && !isReset)) throw new StartError(USAGE);
  readDotEnv();
  const settings = readSettings(process.env).get(Settings);
  if (isReset) await withDatabase(settings, reset);
  else await copyTo(settings, argument as string);
}

interface OpenDatabase {
  url: string;
  /** Whether a running server has it open too. */
  shared: boolean;
}

/** Opens the database of this installation for the time of some work. */
async function withDatabase(settings: Settings, work: (database: OpenDatabase) => Promise<void>): Promise<void> {
  const given = settings.databaseDirectUrl ?? settings.databaseUrl;
  const database =
    given === undefined
      ? await openEmbeddedDatabase({ home: settings.home, binDir: settings.pgBin, log: say })
      : { url: given, shared: false, close: () => Promise.resolve() };
  const stop = (): void => void database.close().finally(() => process.exit(130));
  process.once('SIGINT', stop).once('SIGTERM', stop);
  try {
    await work(database);
  } finally {
    await database.close();
  }
}

async function copyTo(settings: Settings, target: string): Promise<void> {
  await checkDatabase(target, settings, 'the URL after "db copy"');
  await withDatabase(settings, async ({ url, shared }) => {
    if (shared) say('Nexus is running: what it writes from now on is not copied.');
    const { tables, rows } = await copyDatabase(url, target, schema);
    say(`Copied ${rows} rows of ${tables} tables.`);
  });
}

async function reset({ url }: OpenDatabase): Promise<void> {
  await resetDatabase(url, ['public', QUEUE_SCHEMA]);
  say('All data of this server is deleted.');
}

main(process.argv.slice(2)).catch((error: unknown) => {
  const expected = error instanceof StartError || error instanceof ConfigError;
  say(expected ? error.message : `It failed: ${error instanceof Error ? error.stack : String(error)}`);
  process.exitCode = 1;
});
