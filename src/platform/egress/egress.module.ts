import { Global, Module, type OnApplicationShutdown } from '@nestjs/common';
import { Settings } from '../config/index.js';
import { EgressClient } from './egress-client.js';

/** The one client for URLs that come from users. */
@Global()
@Module({
  providers: [
    {
      provide: EgressClient,
      inject: [Settings],
      useFactory: ({ egressAllow }: Settings) => new EgressClient({ allow: egressAllow }),
    },
  ],
  exports: [EgressClient],
})
export class EgressModule implements OnApplicationShutdown {
  constructor(private readonly client: EgressClient) {}

  onApplicationShutdown(): Promise<void> {
    return this.client.close();
  }
}
