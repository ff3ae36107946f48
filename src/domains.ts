import { AgentsModule } from './agents/index.js';
import { AlertsModule } from './alerts/index.js';
import { CommandsModule } from './commands/index.js';
import { EventsApiModule } from './events/index.js';
import { HooksModule } from './hooks/index.js';
import { SecurityModule } from './security/index.js';
import { StreamingModule } from './streaming/index.js';
import { SystemModule } from './system/index.js';
import { TelemetryModule } from './telemetry/index.js';
import { WebhooksModule } from './webhooks/index.js';

/** The only list of domains. */
export const domains = [
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
