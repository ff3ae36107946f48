import { Global, Module } from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import { DatabaseModule } from '../database/index.js';
import { JobsModule } from '../jobs/index.js';
import { DeadLetterOffice } from './dead-letter-office.js';
import { DeadLetter } from './dead-letter.entity.js';
import { DeadLetters } from './dead-letters.js';
import { EventBus } from './event-bus.js';
import { EventCheckpoint } from './event-checkpoint.entity.js';
import { EventCheckpoints } from './event-checkpoints.js';
import { EventDiscovery } from './event-discovery.js';
import { EventFeed } from './event-feed.js';
import { EventHandlers } from './event-handlers.js';
import { EventHistory } from './event-history.js';
import { EventJobs } from './event-jobs.js';
import { EventNames } from './event-names.js';
import { EventRelay } from './event-relay.js';
import { EventRetention } from './event-retention.js';
import { EventStoreMarker } from './event-store-marker.entity.js';
import { DomainEvent } from './event.entity.js';
import { EventsRemoved } from './events-removed.entity.js';
import { PurgeEvents, SweepDeadLetters } from './events.jobs.js';
import { OutboxStatus } from './outbox-status.js';

@Global()
@Module({
  imports: [
    JobsModule.forFeature([PurgeEvents, SweepDeadLetters]),
    DatabaseModule.forFeature([DeadLetter, EventCheckpoint, EventStoreMarker, DomainEvent, EventsRemoved], {
      filledByMigrations: ['event_store_marker', 'events_removed'],
    }),
    DiscoveryModule,
  ],
  providers: [
    EventJobs,
    EventRelay,
    EventCheckpoints,
    EventBus,
    EventFeed,
    EventRetention,
    EventHandlers,
    EventDiscovery,
    DeadLetterOffice,
    DeadLetters,
    OutboxStatus,
    EventHistory,
    EventNames,
  ],
  exports: [OutboxStatus, EventBus, EventFeed, EventHandlers, DeadLetters, EventHistory, EventNames],
})
export class EventsModule {}
