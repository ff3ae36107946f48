import net from 'node:net';
import { Controller, Get, Param, Post, Sse } from '@nestjs/common';
import { interval, map, type Observable } from 'rxjs';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Database } from '../../src/platform/database/index.js';
import { Allow, InFlight, LeanRoutes, Wire } from '../../src/platform/http/index.js';
import { eventually } from '../support/eventually.js';
import { type Harness, startHarness } from './harness.js';

/** What requests wait for; a test opens it. */
let gate: Promise<void>;
let open: () => void;
/** How requests have ended that nobody waited for any more. */
const ends: string[] = [];

@Wire('raw')
@Allow()
@Controller('slow')
class SlowController {
  constructor(private readonly db: Database) {}

  @Post('notes/:text')
  async add(@Param('text') text: string): Promise<object> {
    return this.work(text, () =>
      this.db.transaction(async (tx) => {
        await tx.query('INSERT INTO notes (text) VALUES ($1)', [text]);
        await gate;
        return { text };
      }),
    );
  }

  @Get('reads/:name')
  async read(@Param('name') name: string): Promise<object> {
    return this.work(name, async () => {
      await gate;
      await this.db.query('SELECT 1');
      return {};
    });
  }

  @Get('queries/:name')
  async query(@Param('name') name: string): Promise<object> {
    return this.work(name, async () => {
      await gate;
      await this.db.manager.query('SELECT 1');
      return {};
    });
  }

  @Sse('ticks') ticks(): Observable<{ data: object }> {
    return interval(20).pipe(map((n) => ({ data: { n } })));
  }

  private async work(name: string, task: () => Promise<object>): Promise<object> {
    try {
      const done = await task();
      ends.push(`${name} done`);
      return done;
    } catch (error) {
      ends.push(`${name} ${(error as Error).message}`);
      throw error;
    }
  }
}

const LARGE = 32 * 1024 * 1024;

@Wire('raw')
@Allow()
@Controller('large')
class LargeController {
  @Get() get(): object {
    return { text: 'x'.repeat(LARGE) };
  }
}

describe('a request that takes too long', () => {
  let server: Harness;
  beforeAll(async () => {
    server = await startHarness([SlowController], { NEXUS_REQUEST_TIMEOUT: '1' });
    await server.db.query('CREATE TABLE notes (text text)');
    server.app.get(LeanRoutes).register({
      path: '/slow/lean',
      anyOf: [],
      audit: 'minute',
      limits: { maxDepth: 8, maxKeys: 100, maxValues: 1000, maxKeyLength: 64 },
      handle: async () => {
        await gate;
        return { status: 202, body: {} };
      },
    });
  });
  afterAll(() => server.stop());
  beforeEach(() => {
    gate = new Promise((resolve) => (open = resolve));
  });

  const send = (method: string, path: string, key?: string) =>
    fetch(`${server.url}/api/v1/slow${path}`, {
      method,
      headers: { authorization: 'Bearer ann', ...(key ? { 'idempotency-key': key } : {}) },
    });
  const notes = async (text: string): Promise<number> =>
    (await server.db.query('SELECT 1 FROM notes WHERE text = $1', [text])).length;
  const ended = (name: string) => eventually(() => ends.find((end) => end.startsWith(name)));

  it('is answered 504, and nothing of it is committed afterwards', async () => {
    const late = await send('POST', '/notes/lost');
    expect(late.status).toBe(504);
    expect(await late.json()).toMatchObject({ error: { code: 'TIMEOUT' } });
    open();
    expect(await ended('lost')).toBe('lost The request took too long');
    expect(await notes('lost')).toBe(0);
  });

  it('happens once when it is repeated with its Idempotency-Key', async () => {
    expect((await send('POST', '/notes/kept', 'again')).status).toBe(504);
    open();
    await ended('kept');
    // The first one holds the key until it is rolled back.
    await eventually(async () => (await send('POST', '/notes/kept', 'again')).status === 201);
    const replayed = await send('POST', '/notes/kept', 'again');
    expect([replayed.status, replayed.headers.get('idempotency-replayed')]).toEqual([201, 'true']);
    expect(await notes('kept')).toBe(1);
  });

  it('asks the database for nothing more', async () => {
    const late = await Promise.all([send('GET', '/reads/idle'), send('GET', '/queries/late')]);
    expect(late.map(({ status }) => status)).toEqual([504, 504]);
    open();
    expect(await ended('idle')).toBe('idle The request took too long');
    expect(await ended('late')).toBe('late The request took too long');
  });

  it('is answered alike on lean routes, and streams take as long as they like', async () => {
    const lean = await fetch(`${server.url}/api/v1/slow/lean`, {
      method: 'POST',
      headers: { authorization: 'Bearer ann', 'content-type': 'application/json' },
      body: '{}',
    });
    expect(lean.status).toBe(504);
    const stream = await send('GET', '/ticks');
    const reader = stream.body!.getReader();
    let text = '';
    while (!text.includes('"n":60')) text += new TextDecoder().decode((await reader.read()).value as Uint8Array);
    await reader.cancel();
    expect(stream.headers.get('content-type')).toContain('text/event-stream');
  });

  it('is none when it comes in time', async () => {
    open();
    expect((await send('POST', '/notes/quick')).status).toBe(201);
    expect(await notes('quick')).toBe(1);
  });
});

describe('a client that does not read a large answer', () => {
  it(
    'is cut once it has taken nothing for a while; one that reads slowly gets all of it',
    { timeout: 60_000 },
    async () => {
      const server = await startHarness([LargeController], {}, { stall: 1000 });
      try {
        const ask = (): net.Socket => {
          const socket = net.connect(server.port, '127.0.0.1').on('error', () => undefined);
          socket.write(
            'GET /api/v1/large HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ann\r\nConnection: close\r\n\r\n',
          );
          return socket;
        };
        const [lazy, slow] = [ask().pause(), ask().pause()];
        let taken = 0;
        slow.on('data', (chunk: Buffer) => {
          taken += chunk.length;
          slow.pause();
          setTimeout(() => slow.resume(), 1);
        });
        slow.resume();
        const inFlight = server.app.get(InFlight);
        await eventually(() => inFlight.size === 2);
        await eventually(() => inFlight.size < 2 || taken > LARGE);
        await eventually(() => taken > LARGE && inFlight.size === 0, 40_000);
        lazy.destroy();
        slow.destroy();
      } finally {
        await server.stop();
      }
    },
  );
});
