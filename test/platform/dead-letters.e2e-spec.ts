import { Injectable, type INestApplicationContext } from '@nestjs/common';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Database } from '../../src/platform/database/index.js';
import { AppError } from '../../src/platform/errors/index.js';
import {
  type DeadLetterSummary,
  DeadLetters,
  defineEvent,
  EventBus,
  OnEveryEvent,
  OnEvent,
  payloadSchema,
  type StoredEvent,
} from '../../src/platform/events/index.js';
import { DeadLetterOffice } from '../../src/platform/events/dead-letter-office.js';
import { Retention } from '../../src/platform/retention/index.js';
import { JobQueue } from '../../src/platform/jobs/index.js';
import { HealthRegistry, Metrics } from '../../src/platform/observability/index.js';
import { eventually } from '../support/eventually.js';
import { redisInstalled, RedisServer } from '../support/redis.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { execute, startPlatform } from './harness.js';

const LONG = 45_000;
const schema = payloadSchema({ n: { type: 'integer' } });
const Sent = defineEvent<{ n: number }>('letter.sent', { summary: 'A letter was sent', schema });

let refuse: ((n: number) => Error | undefined) | undefined;
const taken: number[] = [];
const tries: number[] = [];

@Injectable()
class Handlers {
  @OnEvent(Sent, { handler: 'test.one', queue: 'test-letters', attempts: 2 })
  one(event: StoredEvent<{ n: number }>): Promise<void> {
    tries.push(event.data.n);
    const error = refuse?.(event.data.n);
    if (error) return Promise.reject(error);
    taken.push(event.data.n);
    return Promise.resolve();
  }

  @OnEveryEvent({ handler: 'test.many', queue: 'test-letters', attempts: 1 })
  many(events: StoredEvent[]): Promise<void> {
    const errors = events.map(({ data }) => refuse?.(data.n as number));
    return errors.some(Boolean) ? Promise.reject(new Error('one of many')) : Promise.resolve();
  }
}

const running: INestApplicationContext[] = [];
let database: TestDatabase;
let env: Record<string, string> = {};

beforeEach(async () => {
  taken.length = tries.length = 0;
  refuse = undefined;
  database = await createTestDatabase();
});
afterEach(async () => {
  await stopAll();
  await database.drop();
});

async function stopAll(): Promise<void> {
  await Promise.all(running.splice(0).map((app) => app.close()));
}

async function start(more: Record<string, string> = {}): Promise<INestApplicationContext> {
  const app = await startPlatform(database.url, [Handlers], { ...env, ...more });
  running.push(app);
  return app;
}

async function publish(app: INestApplicationContext, ...numbers: number[]): Promise<void> {
  await app.get(Database).transaction((tx) =>
    app.get(EventBus).publishMany(
      tx,
      numbers.map((n) => ({ event: Sent, subject: `letter_${n}`, data: { n } })),
    ),
  );
}

async function letters(app: INestApplicationContext, handler?: string): Promise<DeadLetterSummary[]> {
  return (await app.get(DeadLetters).list({ handler }, { limit: 1000, offset: 0 })).rows;
}

/** The dead letters of a handler once there are so many of that status. */
const parked = (app: INestApplicationContext, handler: string, count: number, status = 'failed') =>
  eventually(async () => {
    const found = (await letters(app, handler)).filter((letter) => letter.status === status);
    return found.length === count && found;
  }, LONG);

const inTx = <T>(app: INestApplicationContext, work: Parameters<Database['transaction']>[0]): Promise<T> =>
  app.get(Database).transaction(work) as Promise<T>;

function parksLetters(): void {
  it(
    'are kept with their last error once all attempts are used up, for each handler alone',
    { timeout: LONG },
    async () => {
      const app = await start();
      refuse = (n) => (n === 2 ? new Error('bad\0 letter') : undefined);
      await publish(app, 1, 2);
      const [letter] = await parked(app, 'test.one', 1);
      expect(letter).toMatchObject({ eventType: 'letter.sent', attempts: 2, retries: 0, error: 'bad\uFFFD letter' });
      expect(taken).toEqual([1]);
      expect((await app.get(DeadLetters).find(letter.id))?.event).toMatchObject({
        data: { n: 2 },
        subject: 'letter_2',
      });
      // What comes in lists is kept one by one.
      await parked(app, 'test.many', 2);
      const { text } = await app.get(Metrics).render(false);
      expect(text).toContain('nexus_event_dead_letters{handler="test.many"} 2');
      expect((await app.get(HealthRegistry).run()).components.event_handlers.status).toBe('unhealthy');
    },
  );

  it('are gone when a retry succeeds, and count their attempts when it fails', { timeout: LONG }, async () => {
    const app = await start();
    refuse = () => AppError.conflict('never');
    await publish(app, 7);
    const [letter] = await parked(app, 'test.one', 1);
    // Refused by the domain: not tried again.
    expect(letter.attempts).toBe(1);
    const retry = () => inTx<DeadLetterSummary | null>(app, (tx) => app.get(DeadLetters).retry(tx, letter.id));
    refuse = () => new Error('still not');
    expect(await retry()).toMatchObject({ status: 'retrying', retries: 1 });
    const again = await eventually(async () => {
      const [now] = await letters(app, 'test.one');
      return now.status === 'failed' && now;
    }, LONG);
    expect(again).toMatchObject({ id: letter.id, attempts: 3, error: 'still not', retries: 1 });
    refuse = undefined;
    await retry();
    await eventually(async () => (await letters(app, 'test.one')).length === 0, LONG);
    expect(taken).toEqual([7]);
  });
}

describe('Dead letters on PostgreSQL', () => {
  parksLetters();

  it('are tried again all at once, of one handler', { timeout: LONG }, async () => {
    const app = await start();
    refuse = () => AppError.conflict('never');
    await publish(app, ...Array.from({ length: 250 }, (_, n) => n));
    await parked(app, 'test.one', 250);
    const others = (await parked(app, 'test.many', 250)).length;
    refuse = undefined;
    const answer = await inTx(app, (tx) => app.get(DeadLetters).retryAll(tx, 'test.one'));
    expect(answer).toEqual({ retrying: 250, remaining: 0 });
    await eventually(async () => (await letters(app, 'test.one')).length === 0, LONG);
    expect(new Set(taken).size).toBe(250);
    expect(await letters(app, 'test.many')).toHaveLength(others);
    await expect(inTx(app, (tx) => app.get(DeadLetters).retryAll(tx, 'test.none'))).rejects.toMatchObject({
      kind: 'validation',
      details: [{ field: 'handler', issue: 'is not one of test.many, test.one' }],
    });
  });

  it('stay thrown away when a retry under way fails', { timeout: LONG }, async () => {
    const api = await start({ NEXUS_ROLE: 'api' });
    await api.get(Database).query(
      `INSERT INTO event_dead_letters (handler, event_id, event_type, event, error, attempts)
       VALUES ('test.one', gen_random_uuid(), 'letter.sent', '{"data": {"n": 1}}', 'x', 2)`,
    );
    const [{ id }] = await letters(api);
    await inTx(api, (tx) => api.get(DeadLetters).retry(tx, id));
    await eventually(async () => (await api.get(JobQueue).queue('test-letters').getWaitingCount()) === 1, LONG);
    await expect(inTx(api, (tx) => api.get(DeadLetters).retry(tx, id))).rejects.toMatchObject({ kind: 'conflict' });
    expect(await inTx(api, (tx) => api.get(DeadLetters).discard(tx, id))).toMatchObject({ id });
    expect(await inTx(api, (tx) => api.get(DeadLetters).discard(tx, id))).toBeNull();
    refuse = () => new Error('no');
    const worker = await start({ NEXUS_ROLE: 'worker' });
    await eventually(async () => (await worker.get(JobQueue).queue('test-letters').getFailedCount()) === 1, LONG);
    expect(tries).toEqual([1, 1]);
    expect(await letters(worker)).toEqual([]);
  });

  it('are handed over by a sweep when the process died that was to do it', { timeout: LONG }, async () => {
    const app = await start();
    await app.get(Database).query(
      `INSERT INTO event_dead_letters (handler, event_id, event_type, event, error, attempts, status, retries)
       VALUES ('test.one', gen_random_uuid(), 'letter.sent', '{"data": {"n": 5}}', 'x', 2, 'retrying', 1),
              ('test.gone', gen_random_uuid(), 'letter.sent', '{"data": {"n": 6}}', 'x', 2, 'retrying', 1)`,
    );
    await app.get(DeadLetterOffice).sweep();
    await eventually(() => taken.length === 1, LONG);
    expect(taken).toEqual([5]);
    const gone = (await letters(app, 'test.gone'))[0];
    await app.get(Database).query(`UPDATE event_dead_letters SET status = 'failed'`);
    await expect(inTx(app, (tx) => app.get(DeadLetters).retry(tx, gone.id))).rejects.toMatchObject({
      kind: 'conflict',
      details: { handler: 'test.gone' },
    });
  });

  it('are not lost when the database is away as the last attempt fails', { timeout: LONG }, async () => {
    const app = await start();
    await execute(database.url, 'ALTER TABLE event_dead_letters RENAME TO away');
    refuse = () => AppError.conflict('never');
    await publish(app, 9);
    const queue = app.get(JobQueue).queue('test-letters');
    await eventually(async () => (await queue.getDelayedCount()) === 2, LONG);
    await execute(database.url, 'ALTER TABLE away RENAME TO event_dead_letters');
    for (const job of await queue.getDelayed()) await job.promote();
    await parked(app, 'test.one', 1);
    await parked(app, 'test.many', 1);
  });

  it(
    'are also made of jobs that ended their process each time, and go after their retention',
    { timeout: LONG },
    async () => {
      const app = await start({ NEXUS_DEAD_LETTER_RETENTION_DAYS: '3' });
      refuse = () => AppError.conflict('job stalled more than allowable limit');
      await publish(app, 3);
      await parked(app, 'test.one', 1);
      // The sweep of the schedule may come first.
      await eventually(async () => {
        await app.get(DeadLetterOffice).sweep();
        return (await letters(app, 'test.one'))[0].error === 'Its process ended each time before the handler did';
      }, LONG);
      const failed = await app.get(JobQueue).queue('test-letters').getFailed();
      expect(failed.map(({ name }) => name)).not.toContain('event.test.one');
      await parked(app, 'test.many', 1);
      await app.get(Database).query(`UPDATE event_dead_letters SET failed_at = now() - interval '73 hours'`);
      await app.get(Retention).run();
      expect(await letters(app)).toEqual([]);
    },
  );
});

describe.skipIf(!redisInstalled)('Dead letters on Redis', () => {
  let redis: RedisServer;
  beforeEach(async () => {
    redis = await RedisServer.start();
    env = { REDIS_URL: redis.url };
  });
  afterEach(async () => {
    await stopAll();
    await redis.stop();
    env = {};
  });

  parksLetters();
});
