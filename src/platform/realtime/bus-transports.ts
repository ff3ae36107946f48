import { Redis } from 'ioredis';
import { Semaphore } from '../concurrency/index.js';
import { WatchedClient } from '../database/index.js';
import type { Logger } from '../observability/index.js';
import type { BusTransport } from './bus.js';

const CHANNEL = 'nexus_bus';
const RECONNECT_MS = 500;
const CONNECT_TIMEOUT_MS = 5000;
/** The connection may be silent for long, so only a query shows that the server is still there. */
const PING_MS = 2000;

/** LISTEN/NOTIFY on a dedicated connection, which must not go through a pooler in transaction mode. */
export class PostgresTransport implements BusTransport {
  private client: WatchedClient | undefined;
  private stopped = false;
  private readonly mutex = new Semaphore(1);

  constructor(
    private readonly url: string,
    private readonly logger: Logger,
  ) {}

  async start(onMessage: (message: string) => void, onReconnect: () => void): Promise<void> {
    const client = new WatchedClient({
      connectionString: this.url,
      application_name: 'nexus-bus',
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      keepAlive: true,
      // With this, a lost idle connection is noticed within seconds instead of hours.
      keepAliveInitialDelayMillis: 10_000,
    });
    const lost = (): void => {
      if (this.client !== client || this.stopped) return;
      this.client = undefined;
      this.logger.warn('The bus lost its database connection and will reconnect');
      this.reconnect(onMessage, onReconnect);
    };
    client.on('error', lost);
    client.on('end', lost);
    const ping = setInterval(() => void client.query('SELECT 1').catch(() => undefined), PING_MS).unref();
    client.on('end', () => clearInterval(ping));
    client.on('notification', (n) => onMessage(n.payload ?? ''));
    try {
      await client.connect();
      await client.query(`LISTEN ${CHANNEL}`);
      if (this.stopped) throw new Error('the bus was stopped');
    } catch (error) {
      clearInterval(ping);
      await client.end().catch(() => undefined);
      throw error;
    }
    this.client = client;
  }

  get connected(): boolean {
    return this.client !== undefined;
  }

  private reconnect(onMessage: (message: string) => void, onReconnect: () => void): void {
    setTimeout(() => {
      if (this.stopped) return;
      this.start(onMessage, onReconnect).then(
        () => {
          this.logger.info('The bus is connected again');
          onReconnect();
        },
        () => this.reconnect(onMessage, onReconnect),
      );
    }, RECONNECT_MS).unref();
  }

  /** Sends messages one after another, because the client runs one statement at a time. */
  send(message: string): Promise<void> {
    return this.mutex.run(async () => {
      if (!this.client) throw new Error('the bus is not connected');
      await this.client.query('SELECT pg_notify($1, $2)', [CHANNEL, message]);
    });
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await this.client?.end();
  }
}

export class RedisTransport implements BusTransport {
  private readonly publisher: Redis;
  private readonly subscriber: Redis;

  constructor(url: string, logger: Logger) {
    const common = { lazyConnect: true, connectTimeout: CONNECT_TIMEOUT_MS };
    this.publisher = new Redis(url, { ...common, maxRetriesPerRequest: 1 });
    this.subscriber = new Redis(url, { ...common, maxRetriesPerRequest: null });
    for (const client of [this.publisher, this.subscriber]) {
      client.on('error', (error: Error) => logger.warnRepeated('redis', { err: error.message }, 'The bus lost Redis'));
    }
  }

  async start(onMessage: (message: string) => void, onReconnect: () => void): Promise<void> {
    this.subscriber.on('message', (_channel, message: string) => onMessage(message));
    try {
      await Promise.all([this.publisher.connect(), this.subscriber.connect()]);
      await this.subscriber.subscribe(CHANNEL);
      this.subscriber.on('ready', onReconnect);
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  get connected(): boolean {
    return this.publisher.status === 'ready' && this.subscriber.status === 'ready';
  }

  async send(message: string): Promise<void> {
    await this.publisher.publish(CHANNEL, message);
  }

  stop(): Promise<void> {
    this.publisher.disconnect();
    this.subscriber.disconnect();
    return Promise.resolve();
  }
}
