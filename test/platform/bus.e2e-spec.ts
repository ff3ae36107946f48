import net from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { currentContext, runInContext } from '../../src/platform/context/index.js';
import { PostgresTransport, RedisTransport } from '../../src/platform/realtime/bus-transports.js';
import { Bus, type BusTransport } from '../../src/platform/realtime/bus.js';
import { eventually } from '../support/eventually.js';
import { freePort } from '../support/nexus-process.js';
import { redisInstalled, RedisServer } from '../support/redis.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { execute, silent } from './harness.js';

const running: Bus[] = [];

async function startBus(transport: BusTransport | null): Promise<{ bus: Bus; heard: unknown[] }> {
  const bus = new Bus(transport, silent);
  await bus.start();
  running.push(bus);
  const heard: unknown[] = [];
  bus.subscribe('news', (payload) => heard.push(payload));
  return { bus, heard };
}

afterEach(async () => {
  for (const bus of running.splice(0)) await bus.stop();
});

/** What holds for every way of carrying messages. */
function carriesMessages(transport: () => BusTransport): void {
  it('reaches the other process and each listener once, in order', async () => {
    const a = await startBus(transport());
    const b = await startBus(transport());
    for (let i = 0; i < 50; i++) a.bus.publish('news', { i, text: 'größer' });
    expect(a.heard).toHaveLength(50);
    await eventually(() => b.heard.length === 50);
    expect(b.heard).toEqual(a.heard);
    b.bus.publish('news', 'back');
    await eventually(() => a.heard.length === 51);
    expect(b.heard).toHaveLength(51);
  });

  it('goes on after a listener of the other process failed', async () => {
    const a = await startBus(transport());
    const b = await startBus(transport());
    let calls = 0;
    b.bus.subscribe('bad', () => {
      calls++;
      throw new Error('bad listener');
    });
    b.bus.subscribe('bad', () => Promise.reject(new Error('bad async listener')));
    b.bus.subscribe('bad', () => calls++);
    a.bus.publish('bad', 1);
    await eventually(() => calls === 2);
    a.bus.publish('news', 2);
    await eventually(() => b.heard.length === 1);
  });
}

describe('The bus in one process', () => {
  it('tells listeners at once, and none that has left', async () => {
    const { bus, heard } = await startBus(null);
    const left: unknown[] = [];
    bus.subscribe('news', (p) => left.push(p))();
    bus.publish('news', 1);
    expect(heard).toEqual([1]);
    expect(left).toEqual([]);
  });

  it('lets a failing listener stop neither the others nor the publisher', async () => {
    const { bus } = await startBus(null);
    const heard: number[] = [];
    bus.subscribe('bad', () => {
      throw new Error('bad listener');
    });
    bus.subscribe<number>('bad', (n) => heard.push(n));
    bus.publish('bad', 1);
    expect(heard).toEqual([1]);
  });

  it('tells listeners outside the request of the publisher', async () => {
    const { bus } = await startBus(null);
    const contexts: unknown[] = [];
    bus.subscribe('who', () => contexts.push(currentContext()));
    runInContext({ requestId: 'req_1', startedAt: 0 }, () => bus.publish('who', 1));
    expect(contexts).toEqual([undefined]);
  });

  it('refuses a message that is too large for some transport, wherever it runs', async () => {
    const { bus, heard } = await startBus(null);
    expect(() => bus.publish('news', 'ü'.repeat(3500))).toThrow(/news has 7\d\d\d bytes, more than 7000/);
    bus.publish('news', 'x'.repeat(6800));
    expect(heard).toHaveLength(1);
  });

  it('drops messages when the other side is stuck instead of collecting them', async () => {
    let sent = 0;
    const stuck: BusTransport = {
      start: () => Promise.resolve(),
      send: () => (sent++, new Promise(() => undefined)),
      stop: () => Promise.resolve(),
      connected: true,
    };
    const { bus, heard } = await startBus(stuck);
    for (let i = 0; i < 1500; i++) bus.publish('news', i);
    expect(sent).toBe(1000);
    expect(heard).toHaveLength(1500);
  });
});

describe('The bus on PostgreSQL', () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createTestDatabase();
  });
  afterAll(() => database.drop());

  carriesMessages(() => new PostgresTransport(database.url, silent));

  it('carries the largest message allowed', async () => {
    const a = await startBus(new PostgresTransport(database.url, silent));
    const b = await startBus(new PostgresTransport(database.url, silent));
    a.bus.publish('news', 'x'.repeat(6900));
    await eventually(() => b.heard.length === 1);
  });

  it('connects again after its connection was cut', async () => {
    const a = await startBus(new PostgresTransport(database.url, silent));
    const b = await startBus(new PostgresTransport(database.url, silent));
    const cut = await execute(
      database.url,
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'nexus-bus' AND datname = current_database()`,
    );
    expect(cut).toHaveLength(2);
    await eventually(() => {
      a.bus.publish('news', 'again');
      return b.heard.length > 0;
    });
  });

  it('ignores what others notify on its channel', async () => {
    const a = await startBus(new PostgresTransport(database.url, silent));
    const b = await startBus(new PostgresTransport(database.url, silent));
    await execute(database.url, `SELECT pg_notify('nexus_bus', 'not json'), pg_notify('nexus_bus', '')`);
    a.bus.publish('news', 1);
    await eventually(() => b.heard.length === 1);
  });

  it('leaves no connection behind when it is stopped while it reconnects', async () => {
    const connections = (): Promise<unknown[]> =>
      execute(
        database.url,
        `SELECT 1 FROM pg_stat_activity WHERE application_name = 'nexus-bus' AND datname = current_database()`,
      );
    await eventually(async () => (await connections()).length === 0);
    const transport = new PostgresTransport(database.url, silent);
    const starting = transport.start(
      () => undefined,
      () => undefined,
    );
    await transport.stop();
    await expect(starting).rejects.toThrow('stopped');
    await eventually(async () => (await connections()).length === 0);
  });

  it('refuses to start without its database', async () => {
    const url = `postgres://nobody@127.0.0.1:${await freePort()}/none`;
    await expect(new Bus(new PostgresTransport(url, silent), silent).start()).rejects.toThrow('ECONNREFUSED');
  });
});

describe.skipIf(!redisInstalled)('The bus on Redis', () => {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await RedisServer.start();
  });
  afterAll(() => redis.stop());

  carriesMessages(() => new RedisTransport(redis.url, silent));

  it('connects again after Redis was away, and publishing meanwhile hurts nobody', async () => {
    const a = await startBus(new RedisTransport(redis.url, silent));
    const b = await startBus(new RedisTransport(redis.url, silent));
    const { port } = redis;
    await redis.stop();
    a.bus.publish('news', 'lost');
    expect(a.heard).toEqual(['lost']);
    redis = await RedisServer.start(port);
    await eventually(() => {
      a.bus.publish('news', 'again');
      return b.heard.includes('again');
    }, 20_000);
  });

  it('refuses to start without Redis, and ends its attempts', async () => {
    const server = net.createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
    const port = await eventually(() => (server.address() as net.AddressInfo | null)?.port);
    let connections = 0;
    server.on('connection', () => connections++);
    await expect(new Bus(new RedisTransport(`redis://127.0.0.1:${port}`, silent), silent).start()).rejects.toThrow();
    await new Promise((resolve) => setTimeout(resolve, 300));
    // One of the publisher, one of the subscriber, and no second try of either.
    expect(connections).toBeLessThanOrEqual(2);
    server.close();
  });
});
