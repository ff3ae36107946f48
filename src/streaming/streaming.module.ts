import { Module } from '@nestjs/common';
import { TelemetryModule } from '../telemetry/index.js';
import { SavedSubscriptions } from './saved-subscriptions.js';
import { SseStreams } from './sse-streams.js';
import { StreamGateway } from './stream.gateway.js';
import { StreamHub } from './stream-hub.js';
import { StreamSubscriptions } from './stream-subscriptions.js';
import { StreamTickets } from './stream-tickets.js';
import { StreamsController } from './streams.controller.js';
import { TelemetryFeed } from './telemetry-feed.js';

/** What happens, told live: channels over WebSocket and server-sent events. Listens only; nobody calls it. */
@Module({
  imports: [TelemetryModule],
  controllers: [StreamsController],
  providers: [
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
