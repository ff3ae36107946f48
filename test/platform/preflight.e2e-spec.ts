import { once } from 'node:events';
import net from 'node:net';
import { Redis } from 'ioredis';
import { afterEach, describe, expect, inject, it } from 'vitest';
import { Settings } from '../../src/platform/config/index.js';
import { readSettings } from '../../src/settings.js';
import { StartError } from '../../src/platform/database/index.js';
import { checkDatabase, checkRedis } from '../../src/preflight.js';
import { int16, int32, message, READY } from '../support/postgres-wire.js';
import { freePort } from '../support/nexus-process.js';
import { createTestDatabase } from '../support/test-database.js';
import { execute } from './harness.js';
import { redisInstalled, RedisServer } from '../support/redis.js';

const servers: net.Server[] = [];
const sockets = new Set<net.Socket>();

afterEach(() => {
  for (const socket of sockets) socket.destroy();
  for (const server of servers.splice(0)) server.close();
});

/** What a server answers to its one question; null for nothing at all. */
interface Said {
  version: number;
  now: Date;
  unsafe: string | null;
  free: number;
  standby: boolean;
}

function answer({ version, now, unsafe, free, standby }: Said): Buffer {
  const columns: [string, number, string | null][] = [
    ['version', 23, String(version)],
    ['now', 1184, now.toISOString().replace('T', ' ').replace('Z', '+00')],
    ['unsafe', 1009, unsafe],
    ['free', 23, String(free)],
    ['standby', 16, standby ? 't' : 'f'],
  ];
  const described = columns.map(([name, oid]) =>
    Buffer.concat([Buffer.from(`${name}\0`), int32(0), int16(0), int32(oid), int16(-1), int32(-1), int16(0)]),
  );
  const values = columns.map(([, , value]) =>
    value === null ? int32(-1) : Buffer.concat([int32(Buffer.byteLength(value)), Buffer.from(value)]),
  );
  return Buffer.concat([
    message('T', int16(columns.length), ...described),
    message('D', int16(columns.length), ...values),
    message('C', 'SELECT 1\0'),
    READY,
  ]);
}

/** A server that speaks just enough of PostgreSQL's protocol; `silent` accepts and says nothing. */
async function fakeServer(say: (() => Said) | 'silent' | 'hang up'): Promise<string> {
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    let greeted = false;
    socket.on('data', (data) => {
      if (say === 'silent') return;
      if (!greeted) {
        greeted = true;
        socket.write(Buffer.concat([message('R', int32(0)), READY]));
      } else if (data.toString('latin1', 0, 1) === 'Q') {
        if (say === 'hang up') socket.destroy();
        else socket.write(answer(say()));
      }
    });
  });
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `postgres://nexus:hunter2@127.0.0.1:${(server.address() as net.AddressInfo).port}/nexus`;
}

const env = { DATABASE_URL: 'postgres://db/nexus', REDIS_URL: 'redis://cache', NEXUS_ALLOW_UNSAFE_DATABASE: 'true' };
const settings = readSettings(env).get(Settings);
const check = (url: string): Promise<string[]> => checkDatabase(url, settings);
const good = (): Said => ({ version: 150_000, now: new Date(), unsafe: null, free: 100, standby: false });

describe('The database', () => {
  it('is taken when it is real and in order, with a word on unsafe settings', async () => {
    const warnings = await check(inject('postgresUrl'));
    if (!process.env['TEST_DATABASE_URL']) {
      expect(warnings.sort()).toEqual(
        ['fsync', 'full_page_writes', 'synchronous_commit'].map(
          (name) => `${name} is off on the database: accepted data can be lost in a power failure`,
        ),
      );
    }
    expect(await check(await fakeServer(good))).toEqual([]);
  });

  it.each(['fsync', 'full_page_writes', 'synchronous_commit'])('is refused when %s is off', async (name) => {
    const strict = readSettings({ ...env, NEXUS_ALLOW_UNSAFE_DATABASE: '' }).get(Settings);
    const url = await fakeServer(() => ({ ...good(), unsafe: `{${name}}` }));
    const refused = checkDatabase(url, strict);
    await expect(refused).rejects.toBeInstanceOf(StartError);
    await expect(refused).rejects.toThrow(
      `${name} is off on the database: accepted data can be lost in a power failure; set it to on for the server, the ` +
        'database and the role, or allow the loss with NEXUS_ALLOW_UNSAFE_DATABASE=true.',
    );
    expect(await check(url)).toHaveLength(1);
  });

  it('is asked for synchronous_commit as its role has it there', async () => {
    const database = await createTestDatabase();
    const name = new URL(database.url).pathname.slice(1);
    const warned = async (): Promise<boolean> => (await check(database.url)).join().includes('synchronous_commit');
    try {
      await execute(database.url, `ALTER DATABASE ${name} SET synchronous_commit = on`);
      expect(await warned()).toBe(false);
      await execute(database.url, `ALTER DATABASE ${name} SET synchronous_commit = off`);
      expect(await warned()).toBe(true);
    } finally {
      await database.drop();
    }
  });

  it('is refused when it is a standby, whatever is allowed', async () => {
    const refused = check(await fakeServer(() => ({ ...good(), standby: true })));
    await expect(refused).rejects.toBeInstanceOf(StartError);
    await expect(refused).rejects.toThrow(
      'The database is a standby, which takes no writes; set DATABASE_URL to the primary server.',
    );
  });

  it('is warned about without Redis when it is external', async () => {
    const alone = readSettings({ DATABASE_URL: 'postgres://db/nexus' }).get(Settings);
    expect(await checkDatabase(await fakeServer(good), alone)).toEqual([
      'REDIS_URL is not set: queues and rate limits run on PostgreSQL and in memory',
    ]);
  });

  it('is warned about when it has fewer free connections than the process may open', async () => {
    const [warning, ...others] = await check(await fakeServer(() => ({ ...good(), free: 17 })));
    expect(others).toEqual([]);
    // With Redis: 12 for requests and 6 for bulk writes.
    expect(warning).toContain('17 free connections for this role and this process may open 18');
    expect(await check(await fakeServer(() => ({ ...good(), free: 18 })))).toEqual([]);
    const alone = readSettings({ DATABASE_URL: 'postgres://db/nexus', NEXUS_DB_POOL: '4' }).get(Settings);
    expect((await checkDatabase(await fakeServer(() => ({ ...good(), free: 46 })), alone))[0]).toContain('may open 47');
  });

  it('counts its free connections within the limits of the database and the role', async () => {
    const database = await createTestDatabase();
    const name = new URL(database.url).pathname.slice(1);
    try {
      await execute(database.url, `ALTER DATABASE ${name} CONNECTION LIMIT 5`);
      expect((await check(database.url)).join()).toContain('The database has 5 free connections');
    } finally {
      await database.drop();
    }
  });

  it('is refused when it is too old', async () => {
    const refused = check(await fakeServer(() => ({ ...good(), version: 140_012 })));
    await expect(refused).rejects.toBeInstanceOf(StartError);
    await expect(refused).rejects.toThrow('The database is PostgreSQL 14; Nexus needs 15 or newer.');
  });

  it('is refused when its clock is apart by more than 2 s, either way', async () => {
    for (const seconds of [-5, 5]) {
      const refused = check(await fakeServer(() => ({ ...good(), now: new Date(Date.now() + seconds * 1000) })));
      await expect(refused).rejects.toThrow('5 s apart');
    }
    for (const ms of [-1500, 1500]) {
      expect(await check(await fakeServer(() => ({ ...good(), now: new Date(Date.now() + ms) })))).toEqual([]);
    }
  });

  it('is refused in one sentence without its password when it cannot be reached', async () => {
    const url = `postgres://nexus:hunter2@127.0.0.1:${await freePort()}/nexus`;
    const refusal = await check(url).catch((error: unknown) => error as Error);
    expect(refusal).toBeInstanceOf(StartError);
    expect((refusal as Error).message).toMatch(
      /^The database at 127\.0\.0\.1:\d+ cannot be reached: .*ECONNREFUSED.*\. Check DATABASE_URL\.$/,
    );
    expect((refusal as Error).message).not.toContain('hunter2');
  });

  it('is refused within a bound when it accepts and says nothing', { timeout: 10_000 }, async () => {
    await expect(check(await fakeServer('silent'))).rejects.toThrow(/cannot be reached: .*timeout/);
  });

  it('is refused when it goes away in the middle', async () => {
    await expect(check(await fakeServer('hang up'))).rejects.toThrow('terminated');
  });
});

describe.skipIf(!redisInstalled)('Redis', () => {
  it('is taken, with a word when it may drop jobs', async () => {
    const redis = await RedisServer.start();
    expect(await checkRedis(redis.url)).toEqual([]);
    const client = new Redis(redis.url);
    await client.config('SET', 'maxmemory-policy', 'allkeys-lru');
    client.disconnect();
    expect(await checkRedis(redis.url)).toEqual([
      'maxmemory-policy of Redis is allkeys-lru: it may drop queued jobs when it is full; set it to noeviction',
    ]);
    await redis.stop();
    await expect(checkRedis(redis.url)).rejects.toThrow(/^Redis at 127\.0\.0\.1:\d+ cannot be reached: .*ECONNREFUSED/);
  });
});
