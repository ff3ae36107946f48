import { Module } from '@nestjs/common';
import { DatabaseModule } from '../platform/database/index.js';
import { HttpModule } from '../platform/http/index.js';
import { TelemetryModule } from '../telemetry/index.js';
import { Channels } from './channels.js';
import { SavedSubscriptions } from './saved-subscriptions.js';
import { SseStreams } from './sse-streams.js';
import { StreamHub } from './stream-hub.js';
import { StreamSubscriptions } from './stream-subscriptions.js';
import { StreamTicket } from './stream-ticket.entity.js';
import { StreamTickets } from './stream-tickets.js';
import { StreamGateway } from './stream.gateway.js';
import { StreamsController } from './streams.controller.js';
import { TelemetryFeed } from './telemetry-feed.js';

/** What happens, told live: channels over WebSocket and server-sent events. Listens only; nobody calls it. */
@Module({
  imports: [
    HttpModule.forFeature({ tags: { streams: 'Events as they happen, over WebSocket and server-sent events' } }),
    DatabaseModule.forFeature([StreamTicket]),
    TelemetryModule,
  ],
  controllers: [StreamsController],
  providers: [
    Channels,
    SavedSubscriptions,
    StreamHub,
    StreamSubscriptions,
    StreamTickets,
    TelemetryFeed,
    StreamGateway,
    SseStreams,
  ],
  exports: [SavedSubscriptions],
})
export class StreamingModule {}
