import { setTimeout as delay } from 'node:timers/promises';
import {
  createPostgresBackend,
  createRedisBackend,
  type Processor,
  Queue,
  type QueueOptions,
  runMigrations,
  Worker,
  type WorkerOptions,
} from 'bullmq';
import pg from 'pg';
import { guardPool, QUEUE_POOL, sessionOptions, WORKER_POOL } from '../database/index.js';

type Options<T> = Omit<T, 'connection'>;

/** Makes the queues and workers of one store: PostgreSQL by default, Redis when `REDIS_URL` is set. */
export interface QueueBackend {
  readonly store: 'postgresql' | 'redis';
  queue(name: string, options: Options<QueueOptions>): Queue;
  worker(name: string, processor: Processor, options: Options<WorkerOptions>): Worker;
  /** Makes what the store needs before queues and workers, where it is missing. */
  prepare(): Promise<void>;
  close(): Promise<void>;
}

export const QUEUE_SCHEMA = 'bullmq';

/** How long a call of the store may wait for a connection or an answer; its own calls take milliseconds. */
const CONNECT_TIMEOUT_MS = 5000;
const STATEMENT_TIMEOUT_MS = 15_000;
const CLOSE_LIMIT_MS = 2000;
/**
 * The store's commits do not wait for the disk; the kernel and PostgreSQL have them, so a killed process of ours loses none. When
 * PostgreSQL itself dies, the newest changes of the queues may go (half a second at most), always together with whatever was
 * committed after them: the relay's own commit waits for the disk, so an event that counts as relayed has its jobs there too, and
 * a job whose end was forgotten runs again, as every job may.
 */
const COMMITS = { synchronous_commit: 'off' };

/**
 * Queues share one pool; each worker has its own because one of its connections listens for good. All need sessions of their
 * own: the library names its tables without their schema, and a worker hears of a new job by LISTEN.
 * @param url of PostgreSQL itself or of a pooler in session mode
 * @throws Error when the tables of the queues cannot be made or are newer than this version
 */
export async function postgresBackend(url: string): Promise<QueueBackend> {
  await makeTables(url);
  const pools = new Map<string, pg.Pool>();
  const open = (name: string, max: number): pg.Pool => {
    const kept = pools.get(name);
    // A worker that is made anew.
    if (kept) return kept;
    const pool = new pg.Pool({
      connectionString: url,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      keepAlive: true,
      keepAliveInitialDelayMillis: 10_000,
      max,
      application_name: name,
      ...sessionOptions({
        statement_timeout: STATEMENT_TIMEOUT_MS,
        tcp_user_timeout: 20_000,
        search_path: `${QUEUE_SCHEMA}, public`,
        ...COMMITS,
      }),
    });
    // Every queue listens on it.
    pool.setMaxListeners(0);
    pools.set(name, guardPool(pool));
    return pool;
  };
  const shared = open('nexus-queues', QUEUE_POOL);
  return {
    store: 'postgresql',
    queue: (name, options) => new Queue(name, { ...options, connection: shared }, createPostgresBackend as never),
    worker: (name, processor, options) => {
      const connection = open(`nexus-worker-${name}`, WORKER_POOL);
      return new Worker(name, processor, { ...options, connection }, createPostgresBackend as never);
    },
    prepare: () => makeTables(url),
    close: async () => {
      // A worker that could not say goodbye still holds a connection.
      const closed = Promise.allSettled([...pools.values()].map((pool) => pool.end()));
      await Promise.race([closed, delay(CLOSE_LIMIT_MS, undefined, { ref: false })]);
    },
  };
}

/** On one connection: its advisory lock and its transaction keep several starting processes apart. */
async function makeTables(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: CONNECT_TIMEOUT_MS });
  client.on('error', () => undefined);
  await client.connect();
  try {
    await runMigrations(client, QUEUE_SCHEMA);
  } finally {
    await client.end();
  }
}

export function redisBackend(url: string): QueueBackend {
  const connection = { url, connectTimeout: CONNECT_TIMEOUT_MS };
  // The braces keep each queue's keys on one slot of a Redis Cluster.
  const prefix = '{nexus}';
  return {
    store: 'redis',
    // Who adds a job is told that Redis is away; who runs jobs waits for it.
    queue: (name, options) =>
      new Queue(
        name,
        { ...options, connection: { ...connection, maxRetriesPerRequest: 1 }, prefix },
        createRedisBackend,
      ),
    worker: (name, processor, options) =>
      new Worker(
        name,
        processor,
        { ...options, connection: { ...connection, maxRetriesPerRequest: null }, prefix },
        createRedisBackend,
      ),
    prepare: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
}
