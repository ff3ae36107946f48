import { Global, Inject, Module, type OnApplicationShutdown } from '@nestjs/common';
import { Settings } from '../config/index.js';
import { HealthRegistry, Logger } from '../observability/index.js';
import { Bus } from './bus.js';
import { PostgresTransport, RedisTransport } from './bus-transports.js';
import { SocketTickets } from './socket-tickets.js';
import { StreamPlaces } from './stream-places.js';

@Global()
@Module({
  providers: [
    SocketTickets,
    StreamPlaces,
    {
      provide: Bus,
      inject: [Settings, Logger, HealthRegistry, 'DATABASE_DIRECT_URL'],
      useFactory: async (settings: Settings, logger: Logger, health: HealthRegistry, url: string): Promise<Bus> => {
        // The embedded database serves one process: nobody else to tell.
        const transport = settings.redisUrl
          ? new RedisTransport(settings.redisUrl, logger)
          : settings.embedded
            ? null
            : new PostgresTransport(url, logger);
        const bus = new Bus(transport, logger);
        await bus.start();
        const carrier = settings.redisUrl ? 'redis' : settings.embedded ? 'memory' : 'postgresql';
        health.register('bus', async () => {
          if (!bus.connected) throw new Error('The bus is not connected');
          return { carrier };
        });
        return bus;
      },
    },
  ],
  exports: [Bus, SocketTickets, StreamPlaces],
})
export class RealtimeModule implements OnApplicationShutdown {
  constructor(@Inject(Bus) private readonly bus: Bus) {}

  async onApplicationShutdown(): Promise<void> {
    await this.bus.stop();
  }
}
