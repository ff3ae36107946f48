export type { Cache } from './cache.js';
export { CacheModule } from './cache.module.js';
export { Caches } from './caches.js';
