import { Injectable, type INestApplicationContext } from '@nestjs/common';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { currentContext, runInContext } from '../../src/platform/context/index.js';
import { advisoryLock, Database } from '../../src/platform/database/index.js';
import {
  defineEvent,
  EventBus,
  OnEvent,
  OnEvents,
  payloadSchema,
  type StoredEvent,
} from '../../src/platform/events/index.js';
import { Retention } from '../../src/platform/retention/index.js';
import { JobQueue } from '../../src/platform/jobs/index.js';
import { eventually } from '../support/eventually.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { execute, startPlatform } from './harness.js';

interface Made {
  n: number;
}
const schema = payloadSchema({ n: { type: 'integer' } });
const ThingMade = defineEvent<Made>('thing.made', { summary: 'A thing was made', schema });
const ThingHeaped = defineEvent<Made>('thing.heaped', { summary: 'Things were made, taken many at a time', schema });
const ThingBulk = defineEvent<Made>('thing.bulk', { summary: 'Many things were made', schema });

/** What the subscribers of every process of this file saw. */
const seen: StoredEvent[] = [];
const failures: string[] = [];
/** What each run of the one that takes many was given. */
const heaps: StoredEvent[][] = [];
let failing = 0;

@Injectable()
class Good {
  @OnEvent(ThingMade, { handler: 'test.good', queue: 'test-good' })
  @OnEvent(ThingBulk, { handler: 'test.good-bulk', queue: 'test-good' })
  made(event: StoredEvent<Made>): Promise<void> {
    seen.push(event as unknown as StoredEvent);
    return Promise.resolve();
  }
}

@Injectable()
class Heaps {
  @OnEvents(ThingHeaped, { handler: 'test.heaps', queue: 'test-heaps', attempts: 3 })
  made(events: StoredEvent<Made>[]): Promise<void> {
    heaps.push(events as unknown as StoredEvent[]);
    return failing-- > 0 ? Promise.reject(new Error('not yet')) : Promise.resolve();
  }
}

@Injectable()
class Bad {
  @OnEvent(ThingMade, { handler: 'test.bad', queue: 'test-bad', attempts: 3 })
  made(event: StoredEvent<Made>): Promise<void> {
    if (failing-- > 0) {
      failures.push(event.id);
      return Promise.reject(new Error('not yet'));
    }
    return Promise.resolve();
  }
}

/** Lower half of the relay's advisory lock, as pg_locks shows it. */
const RELAY_LOCK = Number(BigInt.asUintN(32, BigInt(advisoryLock('events.relay'))));

let database: TestDatabase;
let beside: pg.Client;
const running: INestApplicationContext[] = [];

beforeEach(async () => {
  seen.length = failures.length = heaps.length = failing = 0;
  database = await createTestDatabase();
  beside = new pg.Client({ connectionString: database.url });
  beside.on('error', () => undefined);
  await beside.connect();
});
afterEach(async () => {
  await Promise.all(running.splice(0).map((app) => app.close()));
  await beside.end();
  await database.drop();
});

async function start(env: Record<string, string> = {}): Promise<INestApplicationContext> {
  const app = await startPlatform(database.url, [Good, Bad, Heaps], env);
  running.push(app);
  return app;
}

function publish(app: INestApplicationContext, n: number, subject = 'thing_1'): Promise<void> {
  return app.get(Database).transaction((tx) => app.get(EventBus).publish(tx, ThingMade, subject, { n }));
}

/** Events as a process wrote them that died right after its commit. */
async function leftBehind(count: number, type = 'thing.made'): Promise<void> {
  await beside.query(
    `INSERT INTO events (id, type, subject, data, actor_id)
     SELECT gen_random_uuid(), $2, 'thing_' || n % 50, jsonb_build_object('n', n), 'system' FROM generate_series(1, $1::int) n ORDER BY n`,
    [count, type],
  );
}

/** Events and bytes of each batch of the relay, whose transaction they share. */
const relayedBatches = async (): Promise<{ events: number; bytes: number }[]> =>
  (
    await beside.query<{ events: number; bytes: number }>(
      `SELECT count(*)::int AS events, sum(octet_length(data::text))::int AS bytes FROM events
       WHERE relayed_at IS NOT NULL GROUP BY relayed_at`,
    )
  ).rows;
const numbers = (events: StoredEvent[]): unknown[] => events.map((e) => e.data['n']);
const inOrder = (events: StoredEvent[]): StoredEvent[] =>
  [...events].sort((a, b) => (BigInt(a.seq) < BigInt(b.seq) ? -1 : 1));
const unrelayed = async (): Promise<number> =>
  (await beside.query<{ n: number }>('SELECT count(*)::int AS n FROM events WHERE relayed_at IS NULL')).rows[0].n;

describe('An event', () => {
  it('reaches its subscribers when its transaction commits, and only then', async () => {
    const app = await start();
    await expect(
      app.get(Database).transaction(async (tx) => {
        await app.get(EventBus).publish(tx, ThingMade, 'thing_1', { n: 1 });
        throw new Error('rolled back');
      }),
    ).rejects.toThrow('rolled back');
    await publish(app, 2);
    await eventually(() => seen.length === 1);
    expect(seen[0]).toMatchObject({ type: 'thing.made', subject: 'thing_1', data: { n: 2 }, actorId: 'system' });
  });

  it('is relayed with others up to 8 MiB of data, alone when it is larger, and without a pause in between', async () => {
    // Compressed they are small: what counts is what they take in memory.
    await beside.query(
      `INSERT INTO events (id, type, subject, data, actor_id)
       SELECT gen_random_uuid(), 'thing.unheard', 'thing', jsonb_build_object('n', n, 'text', repeat('x', mb * 1048576)), 'system'
       FROM (SELECT n, CASE n WHEN 20 THEN 9 ELSE 1 END AS mb FROM generate_series(1, 40) n) sizes ORDER BY n`,
    );
    await start();
    await eventually(async () => (await unrelayed()) === 0);
    const batches = await relayedBatches();
    expect(batches.filter(({ bytes }) => bytes > 8 * 1048576)).toEqual([
      { events: 1, bytes: expect.any(Number) as number },
    ]);
    expect(batches).toHaveLength(3 + 1 + 3);
  });

  it('carries the request and the actor, while the relay itself works in nobody’s request', async () => {
    const app = await start();
    const contexts: unknown[] = [];
    app.get(Database).onBeforeCommit((_tx, context) => {
      contexts.push(context.method);
      return Promise.resolve();
    });
    await runInContext({ requestId: 'req_abc', startedAt: 0, method: 'POST' }, async () => {
      await publish(app, 1);
      expect(currentContext()?.resourceId).toBe('thing_1');
    });
    await eventually(() => seen.length === 1);
    expect(seen[0].requestId).toBe('req_abc');
    expect(contexts.filter((method) => method === 'POST')).toHaveLength(1);
  });

  it('keeps the order of its subject, and one that commits late with an earlier position is not lost', async () => {
    const app = await start();
    // Takes its position first and commits last.
    await beside.query('BEGIN');
    await leftBehind(1);
    await publish(app, 2);
    await publish(app, 3);
    await eventually(() => seen.length === 2);
    await beside.query('COMMIT');
    await eventually(() => seen.length === 3);
    expect(numbers(inOrder(seen))).toEqual([2, 3, 1]);
    await eventually(async () => (await unrelayed()) === 0);
  });

  it('comes with others of its kind to a subscriber that takes many, a hundred at most, in order', async () => {
    await leftBehind(250, 'thing.heaped');
    await leftBehind(1);
    await start();
    await eventually(() => new Set(heaps.flat().map(({ id }) => id)).size === 250 && seen.length > 0);
    expect(Math.max(...heaps.map((heap) => heap.length))).toBeLessThanOrEqual(100);
    expect(heaps.length).toBeLessThan(25);
    for (const heap of heaps) expect(heap).toEqual(inOrder(heap));
    expect(new Set(heaps.flat().map(({ type }) => type))).toEqual(new Set(['thing.heaped']));
  });

  it('comes again with the others when their run failed', async () => {
    const app = await start();
    failing = 1;
    await app.get(Database).transaction((tx) =>
      app.get(EventBus).publishMany(
        tx,
        [1, 2, 3].map((n) => ({ event: ThingHeaped, subject: 'thing_1', data: { n } })),
      ),
    );
    await eventually(() => heaps.length >= 2);
    expect(heaps.map(numbers)).toEqual([
      [1, 2, 3],
      [1, 2, 3],
    ]);
  });

  it('is retried for the failing subscriber alone', async () => {
    const app = await start();
    failing = 1;
    await publish(app, 1);
    await eventually(() => failing < 0);
    expect(failures).toHaveLength(1);
    expect(seen).toHaveLength(1);
  });

  it('stays visible as a failed job when its subscriber never succeeds', async () => {
    const app = await start();
    failing = 1000;
    await publish(app, 1);
    const queue = app.get(JobQueue).queue('test-bad');
    await eventually(async () => (await queue.getFailedCount()) === 1, 20_000);
    const [job] = await queue.getFailed();
    expect(job).toMatchObject({ name: 'event.test.bad', attemptsMade: 3, failedReason: 'not yet' });
    expect(failures).toHaveLength(3);
  });
});

describe('The relay', () => {
  it('relays again what a store that lost its data had not handled, and no more', { timeout: 90_000 }, async () => {
    const place = async (): Promise<number> => {
      const { rows } = await beside.query<{ seq: string }>(
        `SELECT seq FROM event_checkpoints WHERE handler = 'test.good'`,
      );
      return Number(rows[0]?.seq ?? 0);
    };
    const stop = (): Promise<unknown> => Promise.all(running.splice(0).map((app) => app.close()));
    await publish(await start(), 1);
    await eventually(() => seen.length === 1);
    await eventually(async () => (await place()) === Number(seen[0].seq));
    await stop();
    const api = await start({ NEXUS_ROLE: 'api' });
    await publish(api, 2);
    await publish(api, 3);
    await eventually(async () => (await unrelayed()) === 0);
    await stop();
    await beside.query('DROP SCHEMA bullmq CASCADE');
    await start();
    await eventually(() => seen.length === 3, 30_000);
    expect(numbers(inOrder(seen))).toEqual([1, 2, 3]);
    await eventually(async () => (await place()) === Number(inOrder(seen)[2].seq));
  });

  it('keeps the checkpoint of a subscriber before an event that it could not handle yet', async () => {
    const app = await start();
    failing = 1000;
    await publish(app, 1);
    const places = async (): Promise<Map<string, number>> => {
      const { rows } = await beside.query<{ handler: string; seq: string }>(
        'SELECT handler, seq FROM event_checkpoints',
      );
      return new Map(rows.map(({ handler, seq }) => [handler, Number(seq)]));
    };
    // Else its tries would be used up, and it would be a dead letter.
    await app.get(JobQueue).queue('test-bad').pause();
    await publish(app, 2);
    await eventually(async () => (await places()).get('test.good') === Number(inOrder(seen)[1]?.seq), 20_000);
    expect((await places()).get('test.bad')).toBeLessThan(Number(inOrder(seen)[1].seq));
    await app.get(JobQueue).queue('test-bad').resume();
  });

  it('picks up what a dead process left, by polling', async () => {
    await start();
    await leftBehind(3);
    await eventually(() => seen.length === 3);
    await eventually(async () => (await unrelayed()) === 0);
  });

  it(
    'relays a backlog of 5,000 in seconds, none lost and in order, with two at work',
    { timeout: 120_000 },
    async () => {
      await leftBehind(5000, 'thing.bulk');
      const begin = performance.now();
      await Promise.all([start(), start()]);
      await eventually(async () => (await unrelayed()) === 0, 60_000);
      const relayed = performance.now() - begin;
      await eventually(() => new Set(seen.map((e) => e.id)).size >= 5000, 90_000);
      process.stderr.write(
        `5,000 events: relayed in ${Math.round(relayed)} ms, handled in ${Math.round(performance.now() - begin)} ms\n`,
      );
      // A job whose worker lost its lease on a busy machine runs again; a batch relayed twice would show as 500.
      expect(seen.length).toBeLessThan(5250);
      const once = [...new Map(seen.map((e) => [e.id, e])).values()];
      expect(numbers(inOrder(once))).toEqual(Array.from({ length: 5000 }, (_v, i) => i + 1));
      expect(relayed).toBeLessThan(30_000);
    },
  );

  it('does a step again that a crash left between adding the jobs and the commit, without a second run', async () => {
    const app = await start();
    await publish(app, 1);
    await eventually(() => seen.length === 1);
    // As if the commit had not happened.
    await beside.query('UPDATE events SET relayed_at = NULL');
    await eventually(async () => (await unrelayed()) === 0);
    await publish(app, 2);
    await eventually(() => seen.length === 2);
    expect(numbers(seen)).toEqual([1, 2]);
  });

  it('relays nothing while the queues do not answer, holds its lock only so long, and goes on afterwards', async () => {
    const app = await start();
    await publish(app, 1);
    await eventually(() => seen.length === 1);
    await beside.query('BEGIN');
    await beside.query('LOCK TABLE bullmq.job IN ACCESS EXCLUSIVE MODE');
    try {
      await publish(app, 2);
      const locked = async (): Promise<boolean> =>
        (await execute(database.url, `SELECT 1 FROM pg_locks WHERE objid = ${RELAY_LOCK} AND locktype = 'advisory'`))
          .length > 0;
      await eventually(locked);
      const since = performance.now();
      await eventually(async () => !(await locked()), 9000);
      expect(performance.now() - since).toBeLessThan(7000);
      expect(await unrelayed()).toBe(1);
    } finally {
      await beside.query('ROLLBACK');
    }
    await eventually(() => seen.length === 2, 20_000);
    expect(numbers(seen)).toEqual([1, 2]);
  });

  it('loses nothing when its database connections are cut again and again', async () => {
    const app = await start();
    for (let n = 1; n <= 30; n++) {
      await eventually(async () =>
        publish(app, n).then(
          () => true,
          () => false,
        ),
      );
      if (n % 5 === 0) {
        await beside.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'nexus%'`,
        );
      }
    }
    await eventually(() => new Set(numbers(seen)).size === 30, 25_000);
    // The jobs are added before the commit, which may have been cut.
    await eventually(async () => (await unrelayed()) === 0, 25_000);
  });
});

describe('Retention', () => {
  it('deletes relayed events past it in batches, and none that was not relayed', async () => {
    const app = await start({ NEXUS_EVENT_RETENTION_DAYS: '7' });
    const age = `UPDATE events SET occurred_at = now() - interval '8 days'`;
    await leftBehind(4500, 'thing.ignored');
    await eventually(async () => (await unrelayed()) === 0);
    await beside.query(age);
    await publish(app, 1);
    await eventually(async () => (await unrelayed()) === 0);
    // One that no relay has seen yet: it holds the lock of the relay.
    await beside.query('BEGIN');
    await beside.query(`SELECT pg_advisory_lock(${advisoryLock('events.relay')})`);
    await leftBehind(1);
    await beside.query(`${age} WHERE relayed_at IS NULL`);
    await beside.query('COMMIT');
    await app.get(Retention).run();
    const left = await beside.query<{ data: Made; relayed: boolean }>(
      'SELECT data, relayed_at IS NOT NULL AS relayed FROM events ORDER BY position',
    );
    expect(left.rows).toEqual([
      { data: { n: 1 }, relayed: true },
      { data: { n: 1 }, relayed: false },
    ]);
  });
});
