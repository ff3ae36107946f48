import { Global, Module } from '@nestjs/common';
import { Settings } from '../config/index.js';
import { Logger } from '../observability/index.js';
import { Caches, SHARED_CACHE } from './caches.js';
import { SharedCache } from './shared-cache.js';

@Global()
@Module({
  providers: [
    Caches,
    {
      provide: SHARED_CACHE,
      inject: [Settings, Logger],
      useFactory: ({ redisUrl }: Settings, logger: Logger): SharedCache | null =>
        redisUrl ? new SharedCache(redisUrl, logger) : null,
    },
  ],
  exports: [Caches],
})
export class CacheModule {}
