import { type DynamicModule, Global, Module } from '@nestjs/common';
import { APP_FILTER, APP_INTERCEPTOR, APP_PIPE, DiscoveryModule } from '@nestjs/core';
import { ThrottlerModule } from '@nestjs/throttler';
import { LoadedSettings, Settings } from '../config/index.js';
import { DatabaseModule } from '../database/index.js';
import { Logger } from '../observability/index.js';
import { RetentionModule } from '../retention/index.js';
import { AdmissionInterceptor } from './admission.js';
import { ApiDocument } from './api-document.js';
import { apiTags } from './api-tags.js';
import { BodyBudget } from './body-budget.js';
import { BodyReader } from './body-reader.js';
import { Deletion } from './deletion.entity.js';
import { Deletions } from './deletions.js';
import { DtoPipe } from './dto-pipe.js';
import { Entrance } from './entrance.js';
import { ErrorFilter } from './error-filter.js';
import { IdempotencyKey } from './idempotency-key.entity.js';
import { IdempotencyInterceptor } from './idempotency.js';
import { IdempotencyStore } from './idempotency-store.js';
import { InFlight } from './in-flight.js';
import { KnownRoutes } from './known-routes.js';
import { LeanRoutes } from './lean-routes.js';
import { OpenAccess } from './open-access.js';
import { RateLimiter } from './rate-limiter.js';
import { throttlersOf } from './rate-policy.js';
import { MemoryRateStorage, RedisRateStorage } from './rate-storage.js';
import { RequestMetrics } from './request-metrics.js';
import { RequestObservers } from './request-observers.js';
import { RequestTimeoutInterceptor } from './request-timeout.js';
import { RouteCheck } from './route-check.js';
import { WireInterceptor } from './wire.js';

@Global()
@Module({
  imports: [
    DatabaseModule.forFeature([Deletion, IdempotencyKey]),
    DiscoveryModule,
    RetentionModule.forFeature([
      { entity: Deletion, column: 'deletedAt', days: 30 },
      { entity: IdempotencyKey, column: 'expiresAt', days: 0 },
    ]),
    ThrottlerModule.forRootAsync({
      inject: [LoadedSettings, Settings, Logger],
      useFactory: (loaded: LoadedSettings, settings: Settings, logger: Logger) => ({
        throttlers: throttlersOf(loaded),
        storage: settings.redisUrl
          ? new RedisRateStorage(settings.redisUrl, settings.rateLimitFailOpen, logger)
          : new MemoryRateStorage(),
      }),
    }),
  ],
  providers: [
    ApiDocument,
    BodyBudget,
    BodyReader,
    Deletions,
    Entrance,
    ErrorFilter,
    IdempotencyStore,
    InFlight,
    KnownRoutes,
    LeanRoutes,
    OpenAccess,
    RateLimiter,
    RequestMetrics,
    RequestObservers,
    RouteCheck,
    { provide: APP_FILTER, useExisting: ErrorFilter },
    // In this order around a route: its limits and its body, its time, its one effect, its wire profile.
    { provide: APP_INTERCEPTOR, useClass: AdmissionInterceptor },
    { provide: APP_INTERCEPTOR, useClass: RequestTimeoutInterceptor },
    { provide: APP_INTERCEPTOR, useClass: IdempotencyInterceptor },
    { provide: APP_INTERCEPTOR, useClass: WireInterceptor },
    { provide: APP_PIPE, useClass: DtoPipe },
  ],
  exports: [ApiDocument, Deletions, InFlight, KnownRoutes, LeanRoutes, OpenAccess, RateLimiter, RequestObservers],
})
export class HttpModule {
  /** What the API document says of a domain. */
  static forFeature({ tags }: { tags: Readonly<Record<string, string>> }): DynamicModule {
    return apiTags.declare(tags);
  }
}
