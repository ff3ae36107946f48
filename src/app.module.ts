import { type DynamicModule, Module } from '@nestjs/common';
import { AgentsModule } from './agents/index.js';
import { AlertsModule } from './alerts/index.js';
import { CommandsModule } from './commands/index.js';
import { EventsApiModule } from './events/index.js';
import { HooksModule } from './hooks/index.js';
import { CacheModule } from './platform/cache/index.js';
import { BackgroundModule } from './platform/background/index.js';
import { ConfigModule, type LoadedSettings } from './platform/config/index.js';
import { CryptoModule } from './platform/crypto/index.js';
import { DatabaseModule } from './platform/database/index.js';
import { EgressModule } from './platform/egress/index.js';
import { EventsModule } from './platform/events/index.js';
import { HttpModule } from './platform/http/index.js';
import { JobsModule } from './platform/jobs/index.js';
import { ObservabilityModule } from './platform/observability/index.js';
import { OwnershipModule } from './platform/ownership/index.js';
import { RealtimeModule } from './platform/realtime/index.js';
import { schema } from './schema.js';
import { SecurityModule } from './security/index.js';
import { StreamingModule } from './streaming/index.js';
import { SystemModule } from './system/index.js';
import { TelemetryModule } from './telemetry/index.js';
import { WebhooksModule } from './webhooks/index.js';

/** The only list of domains. */
const domains = [
  SecurityModule,
  AgentsModule,
  CommandsModule,
  TelemetryModule,
  AlertsModule,
  WebhooksModule,
  StreamingModule,
  EventsApiModule,
  HooksModule,
  SystemModule,
];

@Module({})
export class AppModule {
  static with(settings: LoadedSettings, databaseUrl: string): DynamicModule {
    return {
      module: AppModule,
      imports: [
        ConfigModule.with(settings),
        ObservabilityModule,
        CryptoModule,
        DatabaseModule.with(databaseUrl, schema),
        RealtimeModule,
        CacheModule,
        JobsModule,
        EventsModule,
        BackgroundModule,
        EgressModule,
        HttpModule,
        OwnershipModule,
        ...domains,
      ],
    };
  }
}
