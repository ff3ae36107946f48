import { mkdtemp, rm } from 'node:fs/promises';
import type { IncomingHttpHeaders } from 'node:http';
import os from 'node:os';
import path from 'node:path';
import {
  type CanActivate,
  type DynamicModule,
  type ExecutionContext,
  Global,
  Injectable,
  Module,
  type Type,
} from '@nestjs/common';
import { APP_GUARD, NestFactory, Reflector } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { Request } from 'express';
import { BackgroundModule } from '../../src/platform/background/index.js';
import { ConfigModule, type LoadedSettings, Settings } from '../../src/platform/config/index.js';
import { type Actor, currentContext } from '../../src/platform/context/index.js';
import { CryptoModule } from '../../src/platform/crypto/index.js';
import { Database, DatabaseModule } from '../../src/platform/database/index.js';
import { AppError } from '../../src/platform/errors/index.js';
import { EventsModule } from '../../src/platform/events/index.js';
import { FeaturesModule } from '../../src/platform/features/index.js';
import {
  accessOf,
  ApiDocument,
  auditPolicyOf,
  authorize,
  configureHttp,
  createHttpAdapter,
  Gatekeeper,
  HttpModule,
  type ServerTimeouts,
} from '../../src/platform/http/index.js';
import { JobsModule } from '../../src/platform/jobs/index.js';
import { HealthRegistry, ObservabilityModule } from '../../src/platform/observability/index.js';
import { RealtimeModule } from '../../src/platform/realtime/index.js';
import { RetentionModule } from '../../src/platform/retention/index.js';
import { schema } from '../../src/schema.js';
import { readSettings } from '../../src/settings.js';
import { SystemModule } from '../../src/system/index.js';
import { checkAnswers } from '../support/documented-answers.js';
import { createTestDatabase } from '../support/test-database.js';

/**
 * Lets in `Bearer <name>` as the user `<name>` with all scopes, `Bearer <name>/<scope>` with one, `Bearer <name>~<key>` as a key of the
 * user, `Bearer agent-<name>` as an agent; refuses `Bearer bad`.
 */
@Injectable()
class NamedGatekeeper extends Gatekeeper {
  override async authenticate(headers: IncomingHttpHeaders): Promise<Actor> {
    const [who, scope] = (headers.authorization ?? '').replace(/^Bearer /, '').split('/');
    const [name, key] = who.split('~');
    if (name === '' || name.startsWith('bad')) throw AppError.unauthenticated('TOKEN_INVALID', 'Who is there?');
    const credential = { credentialId: `key_${key ?? name}`, roles: [], scopes: new Set([scope ?? '*']) };
    if (name.startsWith('agent-')) return { id: name, type: 'agent', name, agentId: name, ...credential };
    const id = `user_${name}`;
    return {
      id,
      type: key === undefined ? 'user' : 'key',
      name,
      ...credential,
      userId: id,
    };
  }

  override onRevoked(): () => void {
    return () => undefined;
  }

  override rightsNow(): Promise<Pick<Actor, 'scopes'>> {
    return Promise.resolve({ scopes: new Set(['*']) });
  }
}

@Injectable()
class NamedGuard implements CanActivate {
  constructor(
    private readonly reflector: Reflector,
    private readonly gatekeeper: Gatekeeper,
  ) {}

  async canActivate(execution: ExecutionContext): Promise<boolean> {
    const targets: [Type, () => unknown] = [execution.getClass(), execution.getHandler() as () => unknown];
    const request = execution.switchToHttp().getRequest<Request>();
    request.auditPolicy = auditPolicyOf(this.reflector, [targets[1], targets[0]]);
    const access = accessOf(this.reflector, [targets[1], targets[0]]);
    if (!access || access.public) return true;
    const context = currentContext();
    const actor = await this.gatekeeper.authenticate(request.headers, context?.ip ?? '');
    if (context) context.actor = actor;
    authorize(actor, access);
    return true;
  }
}

@Global()
@Module({
  providers: [
    { provide: Gatekeeper, useClass: NamedGatekeeper },
    { provide: APP_GUARD, useClass: NamedGuard },
  ],
  exports: [Gatekeeper],
})
class NamedSecurityModule {}

const rooms = [
  ObservabilityModule,
  CryptoModule,
  RealtimeModule,
  JobsModule,
  RetentionModule,
  BackgroundModule,
  EventsModule,
  HttpModule,
  SystemModule,
];

@Module({})
class HarnessModule {
  static with(settings: LoadedSettings, databaseUrl: string, controllers: Type[]): DynamicModule {
    return {
      module: HarnessModule,
      controllers,
      imports: [
        ConfigModule.with(settings),
        FeaturesModule.with(rooms),
        DatabaseModule.with(databaseUrl, schema),
        ...rooms,
        NamedSecurityModule,
      ],
    };
  }
}

export interface Harness {
  url: string;
  port: number;
  db: Database;
  databaseUrl: string;
  app: NestExpressApplication;
  stop(): Promise<void>;
}

/** The real HTTP room with the controllers of a test, on a real database; who is calling is made up by name. */
export async function startHarness(
  controllers: Type[],
  env: Record<string, string> = {},
  timeouts: Partial<ServerTimeouts> = {},
  prepare?: (app: NestExpressApplication) => void,
): Promise<Harness> {
  const database = await createTestDatabase();
  const home = await mkdtemp(path.join(os.tmpdir(), 'nexus-http-'));
  const settings = readSettings({
    NEXUS_HOME: home,
    NEXUS_LOG_LEVEL: 'fatal',
    NEXUS_RATE_LIMITS: 'off',
    ...env,
    DATABASE_URL: database.url,
  });
  const app = await NestFactory.create<NestExpressApplication>(
    HarnessModule.with(settings, database.url, controllers),
    createHttpAdapter(timeouts),
    { bodyParser: false, logger: false, abortOnError: false },
  );
  configureHttp(app);
  prepare?.(app);
  await app.listen(0, '127.0.0.1');
  app.get(HealthRegistry).state = 'ready';
  // A process of jobs only answers its operations with 404, whatever they are.
  if (settings.get(Settings).role !== 'worker') checkAnswers(app.getHttpServer(), () => app.get(ApiDocument).get());
  const { port } = app.getHttpServer().address() as { port: number };
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    db: app.get(Database),
    databaseUrl: database.url,
    app,
    stop: async () => {
      await app.close();
      await database.drop();
      await rm(home, { recursive: true, force: true });
    },
  };
}
