import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { currentContext, type RequestContext, runInContext } from '../../src/platform/context/index.js';
import {
  Database,
  guardPool,
  prepared,
  sessionOptions,
  type Tx,
  WatchedClient,
} from '../../src/platform/database/index.js';
import { AppError } from '../../src/platform/errors/index.js';
import { eventually } from '../support/eventually.js';
import { int32, message, READY } from '../support/postgres-wire.js';
import { type OpenDatabase, openDatabase } from './harness.js';

let opened: OpenDatabase;
let db: Database;

beforeAll(async () => {
  opened = await openDatabase(3);
  db = opened.db;
  await opened.beside.query('CREATE TABLE notes (id text PRIMARY KEY, n int NOT NULL DEFAULT 0)');
});
afterAll(() => opened.close());
beforeEach(async () => {
  await opened.beside.query('TRUNCATE notes');
});

const request = (): RequestContext => ({ requestId: `req_${randomUUID()}`, startedAt: 0, method: 'POST', path: '/' });
const write = (tx: Tx, id: string): Promise<unknown> => tx.query('INSERT INTO notes (id) VALUES ($1)', [id]);
const notes = async (): Promise<string[]> =>
  (await opened.beside.query<{ id: string }>('SELECT id FROM notes ORDER BY id')).rows.map(({ id }) => id);

/** A transaction whose first try meets a change made since its snapshot. @returns how often it ran */
async function conflict(work: (tx: Tx, attempt: number) => void): Promise<number> {
  await opened.beside.query(`INSERT INTO notes VALUES ('contested')`);
  let attempts = 0;
  await db.transaction(async (tx) => {
    attempts++;
    await tx.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ');
    await tx.query('SELECT n FROM notes');
    work(tx, attempts);
    if (attempts === 1) await opened.beside.query('UPDATE notes SET n = n + 1');
    await tx.query('UPDATE notes SET n = n + 10');
  });
  return attempts;
}

describe('A transaction', () => {
  it('commits all or nothing', async () => {
    await db.transaction(async (tx) => {
      await write(tx, 'kept');
    });
    await expect(
      db.transaction(async (tx) => {
        await write(tx, 'lost');
        throw AppError.conflict('no');
      }),
    ).rejects.toThrow('no');
    expect(await notes()).toEqual(['kept']);
  });

  it('is seen by queries of the same work, in a request or not, and by nobody else', async () => {
    for (const run of [<T>(work: () => T): T => work(), <T>(work: () => T): T => runInContext(request(), work)]) {
      await opened.beside.query('TRUNCATE notes');
      await run(() =>
        db.transaction(async (tx) => {
          await write(tx, 'a');
          expect(await db.query('SELECT id FROM notes')).toEqual([{ id: 'a' }]);
          expect(db.manager).toBe(tx);
          expect(await notes()).toEqual([]);
        }),
      );
      expect(await notes()).toEqual(['a']);
    }
  });

  it('lets work that outlives it go on with a connection of its own', async () => {
    let late: Promise<unknown> | undefined;
    let go: () => void = () => undefined;
    const committed = new Promise<void>((resolve) => (go = resolve));
    await db.transaction(async (tx) => {
      await write(tx, 'a');
      late = committed.then(() => db.transaction((own) => write(own, 'b')));
    });
    go();
    await late;
    expect(await notes()).toEqual(['a', 'b']);
  });

  it('runs again after a serialization failure and keeps nothing of the failed try', async () => {
    const context = request();
    const done: string[] = [];
    const hooks: number[] = [];
    db.onBeforeCommit((_tx, inner) => {
      if (inner.requestId === context.requestId) hooks.push(1);
      return Promise.resolve();
    });
    const attempts = await runInContext(context, () =>
      conflict((tx, attempt) => {
        const inner = currentContext();
        if (inner && attempt === 1) {
          inner.resourceId = 'note_of_the_first_try';
          inner.audited = true;
        }
        db.afterCommit(tx, () => done.push(`try ${attempt}`));
      }),
    );
    expect(attempts).toBe(2);
    expect(await db.query('SELECT n FROM notes')).toEqual([{ n: 11 }]);
    expect(done).toEqual(['try 2']);
    expect(hooks).toEqual([1]);
    expect(context.resourceId).toBeUndefined();
    expect(context.audited).toBeUndefined();
    expect(context.transaction).toBeUndefined();
  });

  it('gives up after three deadlocks', async () => {
    let attempts = 0;
    const failing = db.transaction(async (tx) => {
      attempts++;
      await tx.query(`DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40P01'; END $$`);
    });
    await expect(failing).rejects.toMatchObject({ driverError: { code: '40P01' } });
    expect(attempts).toBe(3);
  });

  it('does not take back the audit mark of an earlier one of the same request', async () => {
    const context = request();
    await runInContext(context, async () => {
      await db.transaction((tx) => {
        const inner = currentContext();
        if (inner) inner.audited = true;
        return write(tx, 'a');
      });
      await expect(db.transaction(() => Promise.reject(new Error('second')))).rejects.toThrow('second');
    });
    expect(context.audited).toBe(true);
  });
});

describe('After the commit', () => {
  it('actions run in order, see the commit, and one that throws stops neither the others nor the answer', async () => {
    const done: string[] = [];
    const result = await db.transaction(async (tx) => {
      await write(tx, 'a');
      db.afterCommit(tx, () => done.push('first'));
      db.afterCommit(tx, () => {
        throw new Error('second');
      });
      db.afterCommit(tx, () => done.push('third'));
      expect(done).toEqual([]);
      return 'answer';
    });
    expect(result).toBe('answer');
    expect(done).toEqual(['first', 'third']);
    expect(await notes()).toEqual(['a']);
  });

  it('actions of a rolled back transaction never run, and none can be added without an open one', async () => {
    const done: string[] = [];
    let ended: Tx | undefined;
    await expect(
      db.transaction((tx) => {
        ended = tx;
        db.afterCommit(tx, () => done.push('never'));
        return Promise.reject(new Error('no'));
      }),
    ).rejects.toThrow('no');
    expect(() => db.afterCommit(ended as Tx, () => done.push('never'))).toThrow('open transaction');
    expect(() => db.afterCommit(db.manager, () => done.push('never'))).toThrow('open transaction');
    expect(done).toEqual([]);
  });
});

describe('A transaction in a transaction', () => {
  it('commits with the outer one, with one before-commit step for both', async () => {
    const context = request();
    let hooks = 0;
    db.onBeforeCommit((_tx, inner) => {
      if (inner.requestId === context.requestId) hooks++;
      return Promise.resolve();
    });
    const done: string[] = [];
    await runInContext(context, () =>
      db.transaction(async (outer) => {
        await write(outer, 'outer');
        await db.transaction(async (tx) => {
          expect(tx).toBe(outer);
          await write(tx, 'inner');
          db.afterCommit(tx, () => done.push('inner'));
        });
        expect(hooks).toBe(0);
        expect(done).toEqual([]);
        expect(await notes()).toEqual([]);
      }),
    );
    expect(hooks).toBe(1);
    expect(done).toEqual(['inner']);
    expect(await notes()).toEqual(['inner', 'outer']);
  });

  it('is undone alone when it fails and the outer one goes on', async () => {
    const done: string[] = [];
    await db.transaction(async (outer) => {
      await write(outer, 'a');
      db.afterCommit(outer, () => done.push('outer'));
      const refused = db.transaction(async (tx) => {
        await write(tx, 'b');
        db.afterCommit(tx, () => done.push('inner'));
        await write(tx, 'a');
      });
      await expect(refused).rejects.toMatchObject({ driverError: { code: '23505' } });
      await write(outer, 'c');
    });
    expect(await notes()).toEqual(['a', 'c']);
    expect(done).toEqual(['outer']);
  });

  it('takes its turn beside others, and may have others in it', async () => {
    await db.transaction(async () => {
      const one = db.transaction(async (tx) => {
        await write(tx, 'one');
        await db.transaction((deep) => write(deep, 'one deep'));
      });
      const two = db.transaction(async (tx) => {
        await write(tx, 'two');
        throw new Error('two');
      });
      const three = db.transaction((tx) => write(tx, 'three'));
      const [, second] = await Promise.allSettled([one, two, three]);
      expect(second.status).toBe('rejected');
    });
    expect(await notes()).toEqual(['one', 'one deep', 'three']);
  });
});

describe('Without the database', () => {
  const pidOf = async (tx: Tx): Promise<number> =>
    (await tx.query<{ pid: number }[]>('SELECT pg_backend_pid() AS pid'))[0].pid;

  it('a connection lost between two statements rejects as unavailable, and the pool recovers', async () => {
    for (let i = 0; i < 5; i++) {
      const cut = db.transaction(async (tx) => {
        await write(tx, `lost ${i}`);
        await opened.beside.query('SELECT pg_terminate_backend($1)', [await pidOf(tx)]);
        await new Promise((resolve) => setTimeout(resolve, 50));
        await write(tx, `also lost ${i}`);
      });
      await expect(cut).rejects.toMatchObject({ kind: 'unavailable' });
    }
    await db.transaction((tx) => write(tx, 'kept'));
    expect(await notes()).toEqual(['kept']);
    expect(db.connections().active).toBe(0);
  });

  it('a connection lost under a statement rejects at once', async () => {
    const cut = db.transaction(async (tx) => {
      const pid = await pidOf(tx);
      const waiting = tx.query('SELECT pg_sleep(4)');
      waiting.catch(() => undefined);
      await opened.beside.query('SELECT pg_terminate_backend($1)', [pid]);
      await waiting;
    });
    await expect(cut).rejects.toThrow(/terminat/);
    expect(await db.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  it('a full pool refuses within its bound instead of waiting for good', { timeout: 15_000 }, async () => {
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const holders = [1, 2, 3].map(() => db.transaction(async (tx) => (await pidOf(tx), await held)));
    await eventually(() => db.connections().active === 3);
    const start = performance.now();
    await expect(db.query('SELECT 1')).rejects.toThrow('timeout exceeded when trying to connect');
    expect(performance.now() - start).toBeLessThan(6000);
    release();
    await Promise.all(holders);
    expect(await db.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  it('a statement, a lock and an idle transaction are all bounded', async () => {
    const rows = await db.query<{ name: string; setting: string }>(
      `SELECT name, setting FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout') ORDER BY name`,
    );
    expect(rows.map((r) => r.setting)).toEqual(['10000', '2000', '5000']);
  });

  it('a silent connection is given up late enough for statements that may take longer', async () => {
    const client = new WatchedClient(db.url);
    await client.connect();
    const { stream } = (client as unknown as { connection: { stream: net.Socket } }).connection;
    try {
      const found: unknown[] = [stream.timeout];
      await client.withPatience(60_000, async () => {
        await client.query('SELECT 1');
        found.push(stream.timeout);
      });
      expect([...found, stream.timeout]).toEqual([17_000, 60_000, 17_000]);
    } finally {
      await client.end();
    }
    const unlimited = sessionOptions({ statement_timeout: 0 }).Client;
    expect(unlimited.prototype).not.toBeInstanceOf(WatchedClient);
    expect(sessionOptions({ statement_timeout: 5000 }).Client.prototype).toBeInstanceOf(WatchedClient);
  });
});

it('A connection that is cut in the moment it is made ends no process', async () => {
  const fatal = message('E', 'SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0');
  const server = net.createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => socket.end(Buffer.concat([message('R', int32(0)), READY, fatal])));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  const pool = guardPool(new pg.Pool({ connectionString: `postgres://nexus@127.0.0.1:${port}/nexus` }));
  for (let i = 0; i < 3; i++) {
    const cut = pool.connect().then(async (client) => {
      try {
        // Its user is as late as a promise makes it, and does not listen either.
        await new Promise((resolve) => setImmediate(resolve));
        await client.query('SELECT 1');
      } finally {
        client.release(true);
      }
    });
    await expect(cut).rejects.toThrow();
  }
  await pool.end();
  server.close();
});

describe('A prepared statement', () => {
  const insert = prepared('test.note', 'INSERT INTO notes (id) VALUES ($1)');
  const keptBy = async (tx: Tx): Promise<string[]> =>
    (await tx.query<{ name: string }[]>('SELECT name FROM pg_prepared_statements')).map(({ name }) => name);

  it('is kept by the connection that ran it, and others are not', async () => {
    await db.transaction(async (tx) => {
      await write(tx, 'plain');
      await tx.query(insert, ['one']);
      await tx.query(insert, ['two']);
      expect(await keptBy(tx)).toEqual(['test.note']);
    });
    expect(await notes()).toEqual(['one', 'plain', 'two']);
  });

  it('works again after it failed, in a transaction of before and in the next', async () => {
    await db.query(insert, ['one']);
    await expect(db.transaction((tx) => tx.query(insert, ['one']))).rejects.toThrow('duplicate key');
    await db.transaction((tx) => tx.query(insert, ['two']));
    expect(await notes()).toEqual(['one', 'two']);
  });

  it('has a name of its own', () => {
    expect(() => prepared('test.note', 'SELECT 1')).toThrow('Two statements are named test.note');
  });
});
