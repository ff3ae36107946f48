import { type DynamicModule, Global, Module } from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import { DatabaseModule } from '../database/index.js';
import { JobsModule } from '../jobs/index.js';
import { DeadLetterOffice } from './dead-letter-office.js';
import { IsNull, Not } from 'typeorm';
import { Settings } from '../config/index.js';
import { RetentionModule } from '../retention/index.js';
import { DeadLetter } from './dead-letter.entity.js';
import { DeadLetters } from './dead-letters.js';
import { EventBus } from './event-bus.js';
import { EventCheckpoint } from './event-checkpoint.entity.js';
import { DomainEvent } from './event.entity.js';
import { EventCatalogue, type DeclaredEvents, declaredEvents } from './event-catalogue.js';
import { EventCheckpoints } from './event-checkpoints.js';
import { EventDiscovery } from './event-discovery.js';
import { EventFeed } from './event-feed.js';
import { EventHandlers } from './event-handlers.js';
import { EventHistory } from './event-history.js';
import { EventJobs } from './event-jobs.js';
import { EventNames } from './event-names.js';
import { EventRelay } from './event-relay.js';
import { EventStoreMarker } from './event-store-marker.entity.js';
import { EventsRemoved } from './events-removed.entity.js';
import { SweepDeadLetters } from './events.jobs.js';
import { OutboxStatus } from './outbox-status.js';

@Global()
@Module({
  imports: [
    JobsModule.forFeature([SweepDeadLetters]),
    DatabaseModule.forFeature([DeadLetter, EventCheckpoint, EventStoreMarker, DomainEvent, EventsRemoved], {
      filledByMigrations: ['event_store_marker', 'events_removed'],
    }),
    DiscoveryModule,
    RetentionModule.forFeature([
      // An event that was not relayed yet is never too old.
      {
        entity: DomainEvent,
        column: 'occurredAt',
        days: (settings) => settings.get(Settings).eventRetentionDays,
        where: { relayedAt: Not(IsNull()) },
      },
      { entity: DeadLetter, column: 'failedAt', days: (settings) => settings.get(Settings).deadLetterRetentionDays },
    ]),
  ],
  providers: [
    EventJobs,
    EventRelay,
    EventCheckpoints,
    EventBus,
    EventFeed,
    EventHandlers,
    EventDiscovery,
    DeadLetterOffice,
    DeadLetters,
    OutboxStatus,
    EventHistory,
    EventNames,
    EventCatalogue,
  ],
  exports: [OutboxStatus, EventBus, EventFeed, EventHandlers, DeadLetters, EventHistory, EventNames, EventCatalogue],
})
export class EventsModule {
  /** The events of a domain, and what holds for all whose names begin like its own. */
  static forFeature(events: DeclaredEvents): DynamicModule {
    return declaredEvents.declare(events);
  }
}
