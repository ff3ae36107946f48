import { setTimeout as delay } from 'node:timers/promises';
import { Injectable, type INestApplicationContext } from '@nestjs/common';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type BackgroundTask,
  BackgroundTasks,
  BackgroundModule,
  defineBackgroundTask,
  HandleTask,
  type TaskContext,
} from '../../src/platform/background/index.js';
import { systemActor } from '../../src/platform/context/index.js';
import { Database } from '../../src/platform/database/index.js';
import { AppError } from '../../src/platform/errors/index.js';
import { Metrics } from '../../src/platform/observability/index.js';
import { Retention } from '../../src/platform/retention/index.js';
import { eventually } from '../support/eventually.js';
import { redisInstalled, RedisServer } from '../support/redis.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { execute, startPlatform } from './harness.js';

interface Input {
  name: string;
}
interface State {
  done: number;
}
type Context = TaskContext<Input, State>;

const Copy = defineBackgroundTask<Input, State>({
  kind: 'test.copy',
  queue: 'test-background',
  steps: ['read', 'write'],
  attempts: 3,
  backoffMs: 20,
  maxOpen: 5,
});
const Plain = defineBackgroundTask<Input, State>({ kind: 'test.plain', queue: 'test-background', concurrency: 3 });

const runs: { name: string; attempt: number; state: State | null }[] = [];
const behaviours = new Map<string, (context: Context) => Promise<object | void>>();

@Injectable()
class Handlers {
  @HandleTask(Copy)
  @HandleTask(Plain)
  run(context: Context): Promise<object | void> {
    runs.push({ name: context.input.name, attempt: context.attempt, state: context.state });
    return behaviours.get(context.input.name)?.(context) ?? Promise.resolve();
  }
}

const LONG = 45_000;
const running: INestApplicationContext[] = [];
let database: TestDatabase;
let env: Record<string, string> = {};

beforeEach(async () => {
  runs.length = 0;
  behaviours.clear();
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

function begin(app: INestApplicationContext, name: string, definition = Copy): Promise<BackgroundTask<Input>> {
  return app
    .get(Database)
    .transaction((tx) => app.get(BackgroundTasks).start(tx, definition, { name }, { id: 'user_1' }));
}

function cancel(app: INestApplicationContext, id: string): Promise<BackgroundTask> {
  return app.get(Database).transaction((tx) => app.get(BackgroundTasks).cancel(tx, id, systemActor));
}

const get = (app: INestApplicationContext, { id }: { id: string }): Promise<BackgroundTask> =>
  app.get(BackgroundTasks).get(id);

function when(app: INestApplicationContext, task: { id: string }, status: string): Promise<BackgroundTask> {
  return eventually(async () => {
    const now = await get(app, task);
    return now.status === status && now;
  }, LONG);
}

/** Resolves when the signal is aborted, as a handler does that listens to it. */
const untilAborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));

function runsTasks(): void {
  it('runs with steps, progress, details and a log, and keeps its result', { timeout: LONG }, async () => {
    const app = await start();
    let go: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (go = resolve));
    behaviours.set('all', async (context) => {
      await context.step('read');
      await context.step('write');
      context.progress(1, 4);
      context.report({ files: 1 });
      context.log('One file of four');
      await gate;
      return { bytes: 42 };
    });
    const task = await begin(app, 'all');
    expect(task).toMatchObject({
      kind: 'test.copy',
      status: 'queued',
      progress: 0,
      createdBy: 'user_1',
      result: null,
    });
    const half = await eventually(async () => {
      const now = await get(app, task);
      return now.details.files === 1 && now;
    }, LONG);
    expect(half).toMatchObject({ status: 'running', progress: 62.5, currentStep: 'write', attempt: 1 });
    expect(half.steps).toEqual([
      { name: 'read', status: 'completed', progress: 100 },
      { name: 'write', status: 'running', progress: 25 },
    ]);
    go();
    const done = await when(app, task, 'completed');
    expect(done).toMatchObject({ progress: 100, result: { bytes: 42 }, details: { files: 1 }, error: null });
    expect(done.finishedAt).toBeInstanceOf(Date);
    const [line] = await app.get(BackgroundTasks).logs(task.id);
    expect(line).toMatchObject({ level: 'info', message: 'One file of four' });
  });

  it(
    'goes on from its last checkpoint after a failure, and counts failures from there',
    { timeout: LONG },
    async () => {
      const app = await start();
      behaviours.set('bumpy', async (context) => {
        const done = context.state?.done ?? 0;
        if (done === 4) return { done };
        await context.checkpoint({ done: done + 1 });
        throw new Error('broken');
      });
      const task = await begin(app, 'bumpy');
      // More failures than it has attempts: each came further than the one before.
      expect((await when(app, task, 'completed')).result).toEqual({ done: 4 });
      expect(runs.map(({ state }) => state?.done)).toEqual([undefined, 1, 2, 3, 4]);
    },
  );

  it('gives up after its attempts without telling internals, and at once when refused', { timeout: LONG }, async () => {
    const app = await start();
    behaviours.set('bad', () => Promise.reject(new Error('secret detail')));
    const bad = await when(app, await begin(app, 'bad'), 'failed');
    expect(bad.error?.code).toBe('INTERNAL_ERROR');
    expect(JSON.stringify(bad)).not.toContain('secret');
    expect(runs.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
    behaviours.set('refused', () => Promise.reject(AppError.unprocessable('No room')));
    const refused = await when(app, await begin(app, 'refused'), 'failed');
    expect(refused).toMatchObject({ attempt: 1, error: { code: 'UNPROCESSABLE_ENTITY', message: 'No room' } });
    const log = await app.get(BackgroundTasks).logs(refused.id);
    expect(log.at(-1)).toMatchObject({ level: 'error', message: 'No room' });
  });

  it('is cancelled from another process, and nothing it then writes counts', { timeout: LONG }, async () => {
    const api = await start({ NEXUS_ROLE: 'api' });
    const worker = await start({ NEXUS_ROLE: 'worker' });
    await worker.get(Database).query('CREATE TABLE effects (n int)');
    const refusals: unknown[] = [];
    behaviours.set('long', async (context) => {
      await untilAborted(context.signal).catch(() => undefined);
      const effect = worker.get(Database).transaction(async (tx) => {
        await tx.query('INSERT INTO effects VALUES (1)');
        await context.checkpoint({ done: 1 }, tx);
      });
      await effect.catch((error: unknown) => refusals.push(error));
      return { done: true };
    });
    const task = await begin(api, 'long');
    await eventually(() => runs.length === 1, LONG);
    expect(await cancel(api, task.id)).toMatchObject({ status: 'cancelled', cancelledBy: 'system', result: null });
    await eventually(() => refusals.length === 1, LONG);
    expect(await api.get(Database).query('SELECT * FROM effects')).toEqual([]);
    expect(await get(api, task)).toMatchObject({ status: 'cancelled', result: null });
    expect(await cancel(api, task.id)).toMatchObject({ status: 'cancelled' });
    // The next of its kind is not held up.
    const next = await when(api, await begin(api, 'next'), 'completed');
    await expect(cancel(api, next.id)).rejects.toThrow('it is completed');
  });

  it('runs as many of a kind at once as it may, the oldest first', { timeout: LONG }, async () => {
    const app = await start();
    const ends: (() => void)[] = [];
    behaviours.set('slow', () => new Promise<void>((resolve) => ends.push(resolve)));
    const tasks = [await begin(app, 'slow'), await begin(app, 'slow')];
    const waiting = await begin(app, 'last');
    await eventually(() => ends.length === 1, LONG);
    expect((await get(app, tasks[0])).status).toBe('running');
    expect((await get(app, tasks[1])).status).toBe('queued');
    expect(await cancel(app, waiting.id)).toMatchObject({ status: 'cancelled', attempt: 0 });
    ends[0]();
    await eventually(() => ends.length === 2, LONG);
    ends[1]();
    await when(app, tasks[1], 'completed');
    expect(runs.map(({ name }) => name)).toEqual(['slow', 'slow']);
  });

  it('goes on in another process when its own stops, which is no failure', { timeout: LONG }, async () => {
    const first = await start();
    behaviours.set('moved', async (context) => {
      if (context.state) return { from: context.state.done };
      await context.checkpoint({ done: 7 });
      return untilAborted(context.signal);
    });
    const task = await begin(first, 'moved');
    await eventually(async () => runs.length === 1 && (await get(first, task)).status === 'running', LONG);
    await eventually(async () => {
      const [row] = await execute<{ checkpoint: unknown }>(database.url, 'SELECT checkpoint FROM background_tasks');
      return row.checkpoint !== null;
    }, LONG);
    running.splice(running.indexOf(first), 1);
    await first.close();
    const second = await start();
    expect((await when(second, task, 'completed')).result).toEqual({ from: 7 });
    const [{ failures }] = await execute<{ failures: number }>(database.url, 'SELECT failures FROM background_tasks');
    expect(failures).toBe(0);
  });
}

describe('A background task on PostgreSQL', () => {
  runsTasks();

  it('begins when its transaction commits, and only then', { timeout: LONG }, async () => {
    const app = await start();
    await expect(
      app.get(Database).transaction(async (tx) => {
        await app.get(BackgroundTasks).start(tx, Plain, { name: 'never' }, systemActor);
        throw new Error('rolled back');
      }),
    ).rejects.toThrow('rolled back');
    await when(app, await begin(app, 'once', Plain), 'completed');
    expect(runs.map(({ name }) => name)).toEqual(['once']);
  });

  it('is taken over from a process that died, whose last words count for nothing', { timeout: LONG }, async () => {
    const app = await start();
    const contexts: Context[] = [];
    behaviours.set('orphan', async (context) => {
      contexts.push(context);
      if (context.attempt === 1) return untilAborted(context.signal);
      await context.checkpoint({ done: 2 });
      return { by: context.attempt };
    });
    const task = await begin(app, 'orphan');
    await eventually(() => contexts.length === 1, LONG);
    // As a process leaves it that was frozen for long: the row claims a silence that no heartbeat could have left.
    await eventually(async () => {
      await execute(
        database.url,
        `UPDATE background_tasks SET heartbeat_at = now() - interval '1 minute', dispatched_at = NULL WHERE attempt = 1`,
      );
      await app.get(BackgroundTasks).sweep();
      return contexts.length === 2;
    }, LONG);
    expect((await when(app, task, 'completed')).result).toEqual({ by: 2 });
    await expect(contexts[0].checkpoint({ done: 1 })).rejects.toThrow('another run');
    expect(contexts[0].signal.aborted).toBe(true);
    const [row] = await execute<{ checkpoint: State }>(database.url, 'SELECT checkpoint FROM background_tasks');
    expect(row.checkpoint).toEqual({ done: 2 });
  });

  it('is given up when its process dies each time', { timeout: LONG }, async () => {
    const app = await start();
    const [{ id }] = await app.get(Database).query<{ id: string }>(
      `INSERT INTO background_tasks (kind, status, steps, input, created_by, attempt, failures, heartbeat_at)
       VALUES ('test.copy', 'running', '[]', '{"name": "deadly"}', 'system', 3, 2, now() - interval '1 minute') RETURNING id`,
    );
    expect((await when(app, { id }, 'failed')).error?.code).toBe('INTERRUPTED');
    expect(runs).toEqual([]);
  });

  it('is refused when too many of its kind are open', async () => {
    const api = await start({ NEXUS_ROLE: 'api' });
    for (let n = 0; n < 5; n++) await begin(api, 'waiting');
    await expect(begin(api, 'too many')).rejects.toMatchObject({ kind: 'rate_limited', details: { limit: 5 } });
    await begin(api, 'of another kind', Plain);
  });

  it('keeps the newest thousand lines of its log, without what cannot be stored', { timeout: LONG }, async () => {
    const app = await start();
    behaviours.set('talker', async (context) => {
      for (let n = 0; n < 700; n++) context.log(`a${n}`);
      await context.step('read');
      for (let n = 0; n < 700; n++) context.log(`b${n}\0`);
    });
    const task = await when(app, await begin(app, 'talker'), 'completed');
    const lines = await app.get(BackgroundTasks).logs(task.id, 0, 2000);
    expect(lines).toHaveLength(1000);
    expect([lines[0].message, lines[999].message]).toEqual(['a400', 'b699\uFFFD']);
    expect(await app.get(BackgroundTasks).logs(task.id, lines[998].n)).toHaveLength(1);
  });

  it('is found by kind and in lists, counted, and deleted when it is old', { timeout: LONG }, async () => {
    const app = await start({ NEXUS_TASK_RETENTION_DAYS: '2' });
    const tasks = app.get(BackgroundTasks);
    const a = await when(app, await begin(app, 'a', Plain), 'completed');
    behaviours.set('b', ({ signal }) => untilAborted(signal));
    const b = await begin(app, 'b');
    expect(await tasks.find(Copy, a.id)).toBeNull();
    expect((await tasks.find(Plain, a.id))?.input.name).toBe('a');
    expect((await tasks.list({}, { limit: 10, offset: 0 })).map(({ id }) => id)).toEqual([b.id, a.id]);
    expect(await tasks.list({ kinds: ['test.copy'], status: 'completed' }, { limit: 10, offset: 0 })).toEqual([]);
    const rest = await tasks.list({}, { limit: 10, offset: 0, after: [b.createdAt.toISOString(), b.id] });
    expect(rest.map(({ id }) => id)).toEqual([a.id]);
    await when(app, b, 'running');
    const { text } = await app.get(Metrics).render(false);
    expect(text).toContain('nexus_background_tasks_pending{kind="test.copy",status="running"} 1');
    expect(text).toContain('nexus_background_tasks_total{kind="test.plain",outcome="completed"} 1');
    await app
      .get(Database)
      .query(`UPDATE background_tasks SET finished_at = now() - interval '49 hours' WHERE finished_at IS NOT NULL`);
    await app.get(Retention).run();
    await expect(tasks.get(a.id)).rejects.toMatchObject({ kind: 'not_found' });
    expect((await get(app, b)).status).toBe('running');
  });

  it('stops the boot without a handler, or with two', async () => {
    await expect(startPlatform(database.url, [], {}, [BackgroundModule.forFeature([Copy, Plain])])).rejects.toThrow(
      'Background tasks without a handler: test.copy, test.plain',
    );
    @Injectable()
    class Second {
      @HandleTask(Plain)
      run(): Promise<void> {
        return delay(0);
      }
    }
    await expect(startPlatform(database.url, [Handlers, Second])).rejects.toThrow('test.plain has two handlers');
    const twice = [BackgroundModule.forFeature([Plain]), BackgroundModule.forFeature([Plain])];
    await expect(startPlatform(database.url, [Handlers], {}, twice)).rejects.toThrow('test.plain is declared twice');
  });
});

describe.skipIf(!redisInstalled)('A background task on Redis', () => {
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

  runsTasks();
});
