import { Module } from '@nestjs/common';
import { BackgroundModule } from '../platform/background/index.js';
import { DatabaseModule } from '../platform/database/index.js';
import { EventsModule } from '../platform/events/index.js';
import { HttpModule } from '../platform/http/index.js';
import { StreamingModule } from '../streaming/index.js';
import { WebhooksModule } from '../webhooks/index.js';
import { DeadLettersController } from './dead-letters.controller.js';
import { DeadLettersService } from './dead-letters.service.js';
import { EventQueries } from './event-queries.js';
import { EventStatsController } from './event-stats.controller.js';
import { EventStats } from './event-stats.service.js';
import { EventSubscribers } from './event-subscribers.js';
import { EventSubscription } from './event-subscription.entity.js';
import { EventSubscriptionsController } from './event-subscriptions.controller.js';
import { EventSubscriptions } from './event-subscriptions.service.js';
import { EventsController } from './events.controller.js';
import { EventsService } from './events.service.js';
import { FAMILIES_TO_COME } from './families-to-come.js';
import { PurgeController } from './purge.controller.js';
import { PurgeService } from './purge.service.js';
import { PurgeMatching } from './purge.task.js';
import { PurgeWorker } from './purge.worker.js';
import { ReplayController } from './replay.controller.js';
import { ReplayService } from './replay.service.js';
import { ReplayEvents } from './replay.task.js';
import { ReplayWorker } from './replay.worker.js';
import { SubscriptionRights } from './subscription-rights.js';

declare module '../platform/ids/id-prefixes.js' {
  interface IdPrefixes {
    dead: 'dead letter';
    purge: 'purge';
    replay: 'replay';
    sub: 'event subscription';
  }
}

/** The events API: callers publish, look up and count events. The outbox itself is `platform/events`. */
@Module({
  imports: [
    EventsModule.forFeature({ families: FAMILIES_TO_COME }),
    BackgroundModule.forFeature([ReplayEvents, PurgeMatching]),
    HttpModule.forFeature({ tags: { events: 'Events of your programs, and looking all events up' } }),
    DatabaseModule.forFeature([EventSubscription]),
    WebhooksModule,
    StreamingModule,
  ],
  // The last one takes every single word behind its path.
  controllers: [
    DeadLettersController,
    PurgeController,
    ReplayController,
    EventStatsController,
    EventSubscriptionsController,
    EventsController,
  ],
  providers: [
    DeadLettersService,
    PurgeService,
    PurgeWorker,
    ReplayService,
    ReplayWorker,
    EventsService,
    EventQueries,
    EventStats,
    EventSubscribers,
    EventSubscriptions,
    SubscriptionRights,
  ],
})
export class EventsApiModule {}
