import { type AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { printBanner } from './banner.js';
import { AgentSettings } from './agents/agents.settings.js';
import { readDotEnv } from './dot-env.js';
import { ConfigError, type LoadedSettings, Settings, VERSION } from './platform/config/index.js';
import {
  connectionsNeeded,
  type EmbeddedPostgres,
  isOutOfConnections,
  StartError,
  startEmbeddedPostgres,
} from './platform/database/index.js';
import { checkAddress, checkDatabase, checkRedis } from './preflight.js';
import { checkPoolers } from './pooler-check.js';
import type { RunningServer } from './server.js';
import { readSettings } from './settings.js';

/** A stop that takes longer than this is cut short by ending the process. */
const STOP_LIMIT_MS = 20_000;
/** Pause before a start that found no free connection to the database is tried again. */
const RETRY_MS = 2000;

/** Lines for the person at the console; everything else goes to the log. */
function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

function refuse(error: unknown): never {
  const expected = error instanceof StartError || error instanceof ConfigError;
  say(expected ? error.message : explain(error));
  process.exit(1);
}

/** One sentence for the failures of a start that people meet; the stack for those they should report. */
function explain(error: unknown): string {
  const { code, port, message, stack } = error as NodeJS.ErrnoException & Partial<AddressInfo>;
  if (code === 'EADDRINUSE') return `Port ${port} is in use by another program; set PORT to a free one.`;
  if (code === 'EACCES' && port !== undefined) {
    return `Port ${port} may not be opened by this user; set PORT to one above 1023.`;
  }
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') {
    return 'The address in NEXUS_HOST does not belong to this machine.';
  }
  return `Nexus could not start: ${stack ?? message}`;
}

async function main(): Promise<void> {
  readDotEnv();
  const loaded = readSettings(process.env);
  const settings = loaded.get(Settings);
  let database: EmbeddedPostgres | undefined;
  let server: RunningServer | undefined;
  let localAgent: { stop(): Promise<void> } | undefined;
  let stopping = false;

  const start = async (): Promise<void> => {
    // Before a data folder is made for a server that cannot listen.
    await checkAddress(settings);
    let url = settings.databaseUrl;
    if (url === undefined) {
      database = await startEmbeddedPostgres({ home: settings.home, binDir: settings.pgBin, log: say });
      database.onExit((reason) => {
        say(`The embedded database ended and did not come back: ${reason}`);
        stop(1);
      });
      url = database.url;
    }
    if (stopping) return;
    server = await startWithConnections(loaded, url, () => stopping);
    if (!server) return;
    // At once: nothing that comes after may keep the secrets of the first start from being shown.
    if (server.firstRun || !stopping) {
      printBanner(say, { settings, port: server.port, firstRun: server.firstRun, version: VERSION });
    }
    if (stopping || !settings.embedded || !loaded.get(AgentSettings).localAgent) return;
    const { startLocalAgent } = await import('./local-agent.js');
    localAgent = await startLocalAgent({ settings, port: server.port, app: server.app });
  };
  const stopAll = async (): Promise<void> => {
    try {
      await localAgent?.stop();
      await server?.stop();
    } finally {
      await database?.stop();
    }
  };
  let starting = Promise.resolve();
  const exitAtOnce = (code: number): never => {
    // The database is told before this process ends, and then ends by itself.
    void database?.stop();
    process.exit(code);
  };
  const stop = (code: number): void => {
    if (stopping) exitAtOnce(code || 130);
    stopping = true;
    setTimeout(() => exitAtOnce(code || 1), STOP_LIMIT_MS).unref();
    // A start under way comes to its next step first, so that what it has begun is known and stopped too.
    starting
      .catch(() => undefined)
      .then(stopAll)
      .then(
        () => process.exit(code),
        () => process.exit(1),
      );
  };
  process.on('SIGTERM', () => stop(0));
  process.on('SIGINT', () => stop(0));
  // Rejections that nobody handles come here too.
  process.on('uncaughtException', (error) => {
    say(`Unexpected failure, stopping: ${error.stack ?? String(error)}`);
    stop(1);
  });

  starting = start();
  await starting.catch(async (error: unknown) => {
    if (stopping) return;
    await stopAll().catch(() => undefined);
    refuse(error);
  });
}

/** Starts the server, again for as long as the database has no connection to spare. @returns nothing when the stop came first */
async function startWithConnections(
  loaded: LoadedSettings,
  url: string,
  stopping: () => boolean,
): Promise<RunningServer | undefined> {
  const settings = loaded.get(Settings);
  for (let waiting = false; !stopping(); waiting = true) {
    try {
      const warnings = await checkDatabase(url, settings);
      if (!settings.embedded) await checkPoolers(url, settings);
      if (settings.redisUrl !== undefined) warnings.push(...(await checkRedis(settings.redisUrl)));
      // Loaded only now, in the shadow of the database's start.
      const { startServer } = await import('./server.js');
      if (stopping()) return undefined;
      return await startServer(loaded, url, warnings);
    } catch (error) {
      if (!isOutOfConnections(error)) throw error;
      if (!waiting) {
        say(
          `The database has no free connection (too many clients already); this process may open ${connectionsNeeded(settings).all}. Waiting for some.`,
        );
      }
      await delay(RETRY_MS);
    }
  }
  return undefined;
}

main().catch(refuse);
