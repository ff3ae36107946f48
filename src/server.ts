import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { AppModule } from './app.module.js';
import { type LoadedSettings, Settings } from './platform/config/index.js';
import { masterKeysOf } from './platform/crypto/index.js';
import { migrate } from './platform/database/index.js';
import { configureHttp, createHttpAdapter, drainHttp } from './platform/http/index.js';
import { HealthRegistry, Logger } from './platform/observability/index.js';
import { SocketAdapter } from './platform/realtime/index.js';
import type { FirstRunSecrets } from './banner.js';
import { schema } from './schema.js';
import { FirstRun, MasterKeyProbe } from './security/index.js';

export interface RunningServer {
  readonly app: NestExpressApplication;
  readonly port: number;
  /** Set by the very first start on a database. */
  readonly firstRun: FirstRunSecrets | null;
  /** Drains and stops everything Nest runs; the database server is not its business. */
  stop(): Promise<void>;
}

/** Migrates the database and starts the roles of this process on it. */
export async function startServer(
  loaded: LoadedSettings,
  databaseUrl: string,
  warnings: string[] = [],
): Promise<RunningServer> {
  const settings = loaded.get(Settings);
  // A malformed key is told in one sentence; inside Nest it would be told with its stack.
  masterKeysOf(settings);
  await migrate(settings.databaseDirectUrl ?? databaseUrl, schema);
  const app = await NestFactory.create<NestExpressApplication>(
    AppModule.with(loaded, databaseUrl),
    createHttpAdapter(),
    {
      bodyParser: false,
      bufferLogs: true,
      abortOnError: false,
    },
  );
  try {
    return await open(app, settings, warnings);
  } catch (error) {
    // What has been started must not trip over a database that is stopped next.
    await app.close().catch(() => undefined);
    throw error;
  }
}

async function open(app: NestExpressApplication, settings: Settings, warnings: string[]): Promise<RunningServer> {
  const logger = app.get(Logger);
  app.useLogger(logger);
  app.useWebSocketAdapter(new SocketAdapter(app));
  configureHttp(app);
  for (const warning of warnings) logger.warn(warning);
  await app.get(MasterKeyProbe).check();
  await app.listen(settings.port, settings.host);
  const firstRun = settings.runsApi ? await app.get(FirstRun).ensureAdmin() : null;
  const health = app.get(HealthRegistry);
  health.state = 'ready';
  const { port } = app.getHttpServer().address() as { port: number };
  return {
    app,
    port,
    firstRun,
    stop: async () => {
      health.state = 'draining';
      await drainHttp(app);
      await app.close();
    },
  };
}
