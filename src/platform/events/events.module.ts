import { Global, Module } from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import { DeadLetterOffice } from './dead-letter-office.js';
import { DeadLetters } from './dead-letters.js';
import { EventBus } from './event-bus.js';
import { EventCheckpoints } from './event-checkpoints.js';
import { EventDiscovery } from './event-discovery.js';
import { EventFeed } from './event-feed.js';
import { EventHandlers } from './event-handlers.js';
import { EventHistory } from './event-history.js';
import { EventJobs } from './event-jobs.js';
import { EventNames } from './event-names.js';
import { EventRelay } from './event-relay.js';
import { EventRetention } from './event-retention.js';
import { OutboxStatus } from './outbox-status.js';

@Global()
@Module({
  imports: [DiscoveryModule],
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
