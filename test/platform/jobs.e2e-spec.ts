import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Injectable, type INestApplicationContext } from '@nestjs/common';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { currentContext, runInContext } from '../../src/platform/context/index.js';
import { Database } from '../../src/platform/database/index.js';
import { AppError } from '../../src/platform/errors/index.js';
import { defineJob, HandleJob, type JobContext, JobQueue, JobsModule } from '../../src/platform/jobs/index.js';
import { HealthRegistry } from '../../src/platform/observability/index.js';
import { eventually } from '../support/eventually.js';
import { ROOT } from '../support/nexus-process.js';
import { redisInstalled, RedisServer } from '../support/redis.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { execute, startPlatform } from './harness.js';

const Work = defineJob<{ id: string }>({
  name: 'test.work',
  queue: 'test-jobs',
  attempts: 3,
  backoffMs: 50,
  dedupe: (p) => p.id,
});
const Tick = defineJob({ name: 'test.tick', queue: 'test-ticks', everyMs: 500 });
const Nightly = defineJob({ name: 'test.nightly', queue: 'test-ticks', cron: '0 3 * * *', attempts: 4 });

interface Run {
  id: string;
  attempt: number;
  requestId?: string;
  actor?: string;
  method?: string;
}
type Behaviour = (context: JobContext) => Promise<unknown>;

const runs: Run[] = [];
const ticks: number[] = [];
let failingTicks = 0;
let slowTick: Promise<void> | undefined;
const behaviours = new Map<string, Behaviour>();

@Injectable()
class Handlers {
  constructor(private readonly db: Database) {}

  @HandleJob(Work)
  async work({ id }: { id: string }, context: JobContext): Promise<unknown> {
    const { requestId, actor, method } = currentContext() ?? {};
    runs.push({ id, attempt: context.attempt, requestId, actor: actor?.id, method });
    const result = await behaviours.get(id)?.(context);
    // A transaction of a job has a context without an HTTP request.
    return this.db.transaction(async (tx) => (await tx.query('SELECT 1'), result));
  }

  @HandleJob(Tick)
  tick(): Promise<void> {
    ticks.push(Date.now());
    if (failingTicks-- > 0) return Promise.reject(new Error('not yet'));
    return slowTick ?? Promise.resolve();
  }

  @HandleJob(Nightly)
  nightly(): Promise<void> {
    return Promise.resolve();
  }
}

const running: INestApplicationContext[] = [];
const children: ChildProcess[] = [];
let database: TestDatabase;
let env: Record<string, string> = {};

beforeEach(async () => {
  runs.length = ticks.length = failingTicks = 0;
  slowTick = undefined;
  behaviours.clear();
  database = await createTestDatabase();
});
afterEach(async () => {
  await stopAll();
  await database.drop();
});

async function stopAll(): Promise<void> {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  await Promise.all(running.splice(0).map((app) => app.close()));
}

async function start(more: Record<string, string> = {}): Promise<INestApplicationContext> {
  const app = await startPlatform(database.url, [Handlers], { ...env, ...more });
  running.push(app);
  return app;
}

async function stop(app: INestApplicationContext): Promise<void> {
  running.splice(running.indexOf(app), 1);
  await app.close();
}

const queueOf = (app: INestApplicationContext, name = 'test-jobs'): ReturnType<JobQueue['queue']> =>
  app.get(JobQueue).queue(name);
const add = (app: INestApplicationContext, id: string, options = {}): Promise<void> =>
  app.get(JobQueue).enqueue(Work, { id }, options);

describe('The boot', () => {
  it('stops when a declared job has no handler, and names it', async () => {
    await expect(startPlatform(database.url, [], {}, [JobsModule.forFeature([Work, Tick, Nightly])])).rejects.toThrow(
      'Jobs without a handler: test.work, test.tick, test.nightly',
    );
  });

  it('stops when a job has two handlers', async () => {
    @Injectable()
    class Second {
      @HandleJob(Work)
      work(): Promise<void> {
        return Promise.resolve();
      }
    }
    await expect(startPlatform(database.url, [Handlers, Second])).rejects.toThrow('Job test.work has two handlers');
  });

  it('refuses a job that is declared twice', async () => {
    const twice = [JobsModule.forFeature([Work]), JobsModule.forFeature([Work])];
    await expect(startPlatform(database.url, [Handlers], {}, twice)).rejects.toThrow('test.work is declared twice');
  });
});

function runsJobs(): void {
  it('runs a job as the system, in the request it came from', async () => {
    const app = await start();
    await runInContext({ requestId: 'req_abc', startedAt: 0, method: 'POST' }, () => add(app, 'a'));
    await app.get(JobQueue).enqueueMany([{ job: Work as never, payload: { id: 'b' } }]);
    await eventually(() => runs.length === 2);
    expect(runs.find((r) => r.id === 'a')).toEqual({ id: 'a', attempt: 1, requestId: 'req_abc', actor: 'system' });
    expect(runs.find((r) => r.id === 'b')?.requestId).toMatch(/^req_job_/);
  });

  it('tries a failing job again with growing pauses, and keeps it in sight when it never succeeds', async () => {
    const app = await start();
    const times: number[] = [];
    behaviours.set('bad', () => (times.push(performance.now()), Promise.reject(new Error('broken'))));
    await add(app, 'bad');
    await eventually(async () => (await queueOf(app).getFailedCount()) === 1);
    expect(runs.map((r) => r.attempt)).toEqual([1, 2, 3]);
    // Half of the pause may be jitter.
    expect(times[1] - times[0]).toBeGreaterThanOrEqual(24);
    expect(times[2] - times[1]).toBeGreaterThanOrEqual(49);
    const [failed] = await queueOf(app).getFailed();
    expect(failed).toMatchObject({ failedReason: 'broken', attemptsMade: 3, data: { payload: { id: 'bad' } } });
  });

  it('tries again also what failed with a text that cannot be stored', async () => {
    const app = await start();
    behaviours.set('odd', () => Promise.reject(new Error('a \0 in it')));
    await add(app, 'odd');
    await eventually(async () => (await queueOf(app).getFailedCount()) === 1);
    expect(runs.map((r) => r.attempt)).toEqual([1, 2, 3]);
    expect((await queueOf(app).getFailed())[0].failedReason).toBe('a \uFFFD in it');
  });

  it('does not try again what the domain refuses, but what may pass later', async () => {
    const app = await start();
    behaviours.set('refused', () => Promise.reject(AppError.conflict('no')));
    behaviours.set('later', ({ attempt }) =>
      attempt === 1 ? Promise.reject(AppError.unavailable('wait')) : Promise.resolve(),
    );
    await add(app, 'refused');
    await add(app, 'later');
    await eventually(async () => (await queueOf(app).getCompletedCount()) === 1);
    await eventually(async () => (await queueOf(app).getFailedCount()) === 1);
    expect(runs.filter((r) => r.id === 'refused')).toHaveLength(1);
    expect(runs.filter((r) => r.id === 'later')).toHaveLength(2);
  });

  it('adds a job with the same key once, also after it ran', async () => {
    const app = await start();
    await Promise.all([add(app, 'same'), add(app, 'same'), add(app, 'same:with:colons'), add(app, 'same:with:colons')]);
    await eventually(async () => (await queueOf(app).getCompletedCount()) === 2);
    await add(app, 'same');
    await add(app, 'last');
    await eventually(async () => (await queueOf(app).getCompletedCount()) === 3);
    expect(runs.map((r) => r.id).sort()).toEqual(['last', 'same', 'same:with:colons']);
  });

  it('runs a delayed job when its time has come, and counts it until then', async () => {
    const app = await start();
    const begin = Date.now();
    let ranAt = 0;
    behaviours.set('slow', () => ((ranAt = Date.now()), Promise.resolve()));
    await add(app, 'slow', { delayMs: 700 });
    expect(await queueOf(app).getJobCounts('delayed', 'waiting')).toEqual({ delayed: 1, waiting: 0 });
    await eventually(() => ranAt > 0);
    expect(ranAt - begin).toBeGreaterThanOrEqual(690);
    expect(ranAt - begin).toBeLessThan(3000);
  });

  it('starts a scheduled job once across workers', async () => {
    await Promise.all([start(), start()]);
    await eventually(() => ticks.length >= 6);
    const span = ticks[ticks.length - 1] - ticks[0];
    expect(ticks.length).toBeLessThanOrEqual(Math.ceil(span / 500) + 2);
  });

  it('runs a schedule that is repeated within a minute without a job, and again after one of its runs failed', async () => {
    failingTicks = 2;
    const app = await start();
    await eventually(() => ticks.length >= 4);
    expect(await queueOf(app, 'test-ticks').getJobCounts('completed', 'failed')).toEqual({ completed: 0, failed: 0 });
  });

  it('runs a schedule once at a time, and another worker runs it while the first is at it', async () => {
    const app = await start();
    await eventually(() => ticks.length >= 1);
    let end = (): void => undefined;
    slowTick = new Promise<void>((resolve) => (end = resolve));
    const before = ticks.length;
    await eventually(() => ticks.length === before + 1);
    slowTick = undefined;
    const { next } = await claimed();
    // Three steps later this process has left it to others.
    await eventually(
      async () =>
        (
          await execute<{ over: boolean }>(
            database.url,
            `SELECT now() > '${next}'::timestamptz + interval '1 second' AS over`,
          )
        )[0].over,
    );
    expect(ticks.length).toBe(before + 1);
    await start();
    await eventually(() => ticks.length > before + 1);
    end();
    await stop(app);
  });

  it('gives a schedule the tries of its job, and drops the schedules of jobs that are no more', async () => {
    const first = await start();
    const ticking = queueOf(first, 'test-ticks');
    await ticking.upsertJobScheduler(
      'test.gone',
      { pattern: '0 4 * * *' },
      { name: 'test.gone', data: { payload: {} } },
    );
    await stop(first);
    const app = await start();
    const queue = queueOf(app, 'test-ticks');
    const schedules = await queue.getJobSchedulers();
    // The other is repeated within a minute: the workers run it by themselves.
    expect(schedules.map(({ key }) => key)).toEqual(['test.nightly']);
    expect(schedules[0]).toMatchObject({
      pattern: '0 3 * * *',
      tz: 'UTC',
      template: { opts: { attempts: 4 } },
    });
    expect((await queue.getDelayed()).map((job) => job.name)).not.toContain('test.gone');
  });

  it('leaves a job of an unknown kind to a newer version instead of failing it', async () => {
    const app = await start();
    await queueOf(app).add('test.from-the-future', { payload: {} });
    await eventually(async () => (await queueOf(app).getDelayedCount()) === 1);
    expect(await queueOf(app).getFailedCount()).toBe(0);
    await queueOf(app).add('test.forgotten', { payload: {} }, { timestamp: Date.now() - 2 * 3_600_000 });
    await eventually(async () => (await queueOf(app).getFailedCount()) === 1);
    expect((await queueOf(app).getFailed())[0].failedReason).toBe('No handler for the job test.forgotten');
  });

  it('tells a running job to end when the server stops, and hands it to another worker without counting a try', async () => {
    const app = await start();
    behaviours.set('long', ({ attempt, signal }) =>
      runs.length > 1
        ? Promise.resolve(attempt)
        : new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('told to stop')))),
    );
    await add(app, 'long');
    await eventually(() => runs.length === 1);
    const begin = performance.now();
    await stop(app);
    expect(performance.now() - begin).toBeLessThan(5000);
    const next = await start();
    await eventually(async () => (await queueOf(next).getCompletedCount()) === 1);
    expect(runs.map((r) => r.attempt)).toEqual([1, 1]);
  });

  it('waits for a job that ends by itself when the server stops', async () => {
    const app = await start();
    let end: () => void = () => undefined;
    behaviours.set('short', () => new Promise<void>((resolve) => (end = resolve)));
    await add(app, 'short');
    await eventually(() => runs.length === 1);
    const stopped = stop(app);
    end();
    await stopped;
    const next = await start();
    expect(await queueOf(next).getCompletedCount()).toBe(1);
    expect(runs).toHaveLength(1);
  });

  it('takes over the job of a worker that was killed', { timeout: 60_000 }, async () => {
    const producer = await start({ NEXUS_ROLE: 'api' });
    await add(producer, 'orphan');
    const child = spawn(process.execPath, ['--input-type=module', '-e', HOLDER], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { PATH: process.env.PATH, DATABASE_URL: database.url, ...env },
    });
    children.push(child);
    await once(child.stdout, 'data');
    child.kill('SIGKILL');
    await once(child, 'exit');
    await start();
    await eventually(() => runs.length === 1, 45_000);
    expect(runs[0].id).toBe('orphan');
  });

  it('runs none in the role api, and counts what waits', async () => {
    const api = await start({ NEXUS_ROLE: 'api' });
    await add(api, 'a');
    await add(api, 'b');
    expect(await queueOf(api).getJobCounts('waiting', 'active')).toEqual({ waiting: 2, active: 0 });
    await start({ NEXUS_ROLE: 'worker' });
    await eventually(() => runs.length === 2);
  });
}

/** A worker that takes a job and never ends it. */
const HOLDER = `
  import { createPostgresBackend, createRedisBackend, Worker } from 'bullmq';
  const { DATABASE_URL, REDIS_URL } = process.env;
  const hold = () => new Promise(() => console.log('taken'));
  const common = { lockDuration: 2000, stalledInterval: 2000 };
  if (REDIS_URL) new Worker('test-jobs', hold, { ...common, prefix: '{nexus}', connection: { url: REDIS_URL } }, createRedisBackend);
  else new Worker('test-jobs', hold, { ...common, connection: { connectionString: DATABASE_URL, schema: 'bullmq', max: 2 } }, createPostgresBackend);
  setInterval(() => undefined, 1000);
`;

/** When the schedule of {@link Tick} is due next. */
async function claimed(): Promise<{ next: string }> {
  const sql = `SELECT next_run_at::text AS next FROM schedule_claims WHERE job = 'test.tick'`;
  return (await execute<{ next: string }>(database.url, sql))[0];
}

/** The schedule of {@link Tick} goes on while the store has lost that of {@link Nightly}, which is set up again, and the health check says when schedules ran last. */
async function ticksAgainAfter(loss: () => Promise<unknown>): Promise<void> {
  const app = await start();
  await eventually(() => ticks.length >= 2);
  await loss();
  const before = ticks.length;
  await eventually(() => ticks.length >= before + 3, 40_000);
  await eventually(async () => {
    const schedules = await queueOf(app, 'test-ticks')
      .getJobSchedulers()
      .catch(() => []);
    return schedules.some(({ key }) => key === 'test.nightly');
  }, 40_000);
  const { components } = await app.get(HealthRegistry).run();
  expect(components.schedules).toMatchObject({ status: 'healthy', details: { late: [] } });
  await eventually(async () => {
    const rows = await execute<{ job: string }>(database.url, 'SELECT job FROM schedule_runs');
    return rows.some(({ job }) => job === 'test.tick');
  }, 30_000);
}

describe('Jobs on PostgreSQL', () => {
  runsJobs();

  it('are scheduled again when the tables of the queues were dropped', { timeout: 100_000 }, () =>
    ticksAgainAfter(() => execute(database.url, 'DROP SCHEMA bullmq CASCADE')),
  );

  it('make the health check fail when a schedule has not run for long', async () => {
    const app = await start({ NEXUS_ROLE: 'api' });
    const check = async () => (await app.get(HealthRegistry).run()).components.schedules;
    // The earlier tests may have taken longer than the first run of a schedule may.
    const uptime = vi.spyOn(process, 'uptime').mockReturnValue(1);
    expect((await check()).status).toBe('healthy');
    await execute(database.url, `INSERT INTO schedule_runs VALUES ('test.tick', now() - interval '10 minutes')`);
    uptime.mockReturnValue(3600);
    try {
      const { status, details } = await check();
      expect(status).toBe('unhealthy');
      expect(details?.late).toContain('test.tick');
      // It runs once a day.
      expect(details?.late).not.toContain('test.nightly');
      expect(Date.parse(String(details?.last_run))).toBeLessThan(Date.now() - 9 * 60_000);
    } finally {
      vi.restoreAllMocks();
    }
  });

  it('go on after every connection was cut', { timeout: 60_000 }, async () => {
    const app = await start();
    await add(app, 'before');
    await eventually(() => runs.length === 1);
    await execute(
      database.url,
      // Not the server's own workers (autovacuum), which this role may not end.
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND datname = current_database() AND pid <> pg_backend_pid()',
    );
    await eventually(() =>
      add(app, 'after').then(
        () => true,
        () => false,
      ),
    );
    // At once, or when the lock of a job that was taken in the moment of the cut has run out. Either job may run twice then.
    await eventually(() => runs.some(({ id }) => id === 'after'), 40_000);
  });
});

describe.skipIf(!redisInstalled)('Jobs on Redis', () => {
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

  runsJobs();

  it('are scheduled again when Redis has lost its data', { timeout: 100_000 }, () =>
    ticksAgainAfter(() => redis.loseData()),
  );

  it('refuse new ones in seconds while Redis is away, and go on when it is back', async () => {
    const app = await start();
    await add(app, 'before');
    await eventually(() => runs.length === 1);
    const { port } = redis;
    await redis.stop();
    const begin = performance.now();
    await expect(add(app, 'lost')).rejects.toThrow();
    expect(performance.now() - begin).toBeLessThan(6000);
    redis = await RedisServer.start(port);
    await eventually(
      () =>
        add(app, 'after').then(
          () => true,
          () => false,
        ),
      20_000,
    );
    await eventually(() => runs.some((r) => r.id === 'after'), 20_000);
  });

  it('do not hold up a stop for long while Redis is away', async () => {
    const app = await start();
    await add(app, 'before');
    await eventually(() => runs.length === 1);
    await redis.stop();
    const begin = performance.now();
    await stop(app);
    expect(performance.now() - begin).toBeLessThan(6000);
  });
});
