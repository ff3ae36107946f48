import { BackgroundModule } from './background/index.js';
import { CacheModule } from './cache/index.js';
import { CryptoModule } from './crypto/index.js';
import { EgressModule } from './egress/index.js';
import { EventsModule } from './events/index.js';
import { HttpModule } from './http/index.js';
import { JobsModule } from './jobs/index.js';
import { ObservabilityModule } from './observability/index.js';
import { OwnershipModule } from './ownership/index.js';
import { RealtimeModule } from './realtime/index.js';
import { RetentionModule } from './retention/index.js';

/** The rooms of the platform, besides configuration and database, which need arguments. */
export const platformModules = [
  ObservabilityModule,
  CryptoModule,
  RealtimeModule,
  CacheModule,
  JobsModule,
  RetentionModule,
  EventsModule,
  BackgroundModule,
  EgressModule,
  HttpModule,
  OwnershipModule,
];
