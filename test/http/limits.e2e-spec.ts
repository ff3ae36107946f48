import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { gzipSync } from 'node:zlib';
import { Body, Controller, Get, HttpCode, Post, Res, Sse } from '@nestjs/common';
import { IsObject } from 'class-validator';
import type { Response } from 'express';
import { interval, map, type Observable } from 'rxjs';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  Allow,
  drainHttp,
  InFlight,
  LargeBody,
  LeanRoutes,
  Public,
  Streaming,
  Wire,
} from '../../src/platform/http/index.js';
import { Metrics } from '../../src/platform/observability/index.js';
import { eventually } from '../support/eventually.js';
import { type Harness, startHarness } from './harness.js';

class DataDto {
  @IsObject() data!: object;
}

/** Ends what `GET /gate` waits for. */
let open: (() => void)[] = [];

@Wire('raw')
@Public()
@Controller()
class GateController {
  constructor(private readonly inFlight: InFlight) {}

  @Get('gate') async gate(): Promise<object> {
    await new Promise<void>((resolve) => open.push(resolve));
    return { opened: true };
  }
  @Get('patient') @Streaming() async patient(): Promise<object> {
    await new Promise<void>((resolve) => open.push(resolve));
    return { opened: true };
  }
  @Sse('ticks') ticks(): Observable<{ data: object }> {
    return interval(20).pipe(map((n) => ({ data: { n } })));
  }
  @Get('polite') @Streaming() polite(@Res() response: Response): void {
    response.setHeader('Content-Type', 'text/event-stream');
    response.write('data: hello\n\n');
    this.inFlight.draining.addEventListener('abort', () => response.end('data: goodbye\n\n'));
  }
  @Post('many') @HttpCode(200) @Allow() @LargeBody() many(@Body() body: DataDto): object {
    return this.data(body);
  }
  @Post('data') @HttpCode(200) data(@Body() body: DataDto): object {
    return { keys: Object.keys(body.data).length };
  }
}

const api = (server: Harness, path: string, init?: RequestInit) => fetch(`${server.url}/api/v1${path}`, init);

/** Sends raw bytes and collects what comes back until the server closes the connection. */
async function raw(port: number, ...parts: string[]): Promise<{ text: string; closedAfterMs: number }> {
  const socket = net.connect(port, '127.0.0.1').setEncoding('latin1');
  const started = performance.now();
  let text = '';
  socket.on('data', (data: string) => (text += data)).on('error', () => undefined);
  await once(socket, 'connect');
  for (const part of parts) socket.write(part, 'latin1');
  await once(socket, 'close');
  return { text, closedAfterMs: performance.now() - started };
}

describe('bodies', () => {
  let server: Harness;
  beforeAll(async () => {
    server = await startHarness([GateController]);
  });
  afterAll(() => server.stop());

  const post = async (body: string | Uint8Array, headers: Record<string, string> = {}, path = '/data') => {
    const response = await api(server, path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : new Uint8Array(body),
    });
    const json = (await response.json()) as {
      error?: { code: string; message: string; request_id: string; details: unknown };
    };
    return { status: response.status, json };
  };

  it('refuses what is dangerous, with 400 and the place', async () => {
    const cases: [name: string, body: string, place: string][] = [
      ['100 000 levels', `{"data":${'['.repeat(100_000)}${']'.repeat(100_000)}}`, 'data'],
      ['__proto__ three levels down', '{"data":{"a":{"b":{"__proto__":{"admin":true}}}}}', '__proto__'],
      ['escaped __proto__', '{"data":{"a":{"\\u005f_proto__":1}}}', '__proto__'],
      ['NUL', '{"data":{"a":"x\\u0000y"}}', 'data.a'],
      ['lone surrogate', '{"data":{"a":"\\ud800"}}', 'data.a'],
      ['key of 257 characters', JSON.stringify({ data: { ['k'.repeat(257)]: 1 } }), 'kkk'],
      ['2^63', '{"data":{"a":9223372036854775808}}', 'data.a'],
      ['no JSON', '{"data": nope}', 'JSON'],
    ];
    for (const [name, body, place] of cases) {
      const { status, json } = await post(body);
      expect([name, status, json.error?.code]).toEqual([name, 400, 'VALIDATION_ERROR']);
      expect(JSON.stringify(json.error?.details), name).toContain(place);
    }
    expect((await post('{"data":{"a":1}}')).status).toBe(200);
    expect((await post(JSON.stringify({ data: { ['k'.repeat(256)]: 1 } }))).status).toBe(200);
  });

  it('refuses more than 1 MB, or 10 where many things come at once, announced, chunked or unpacked', async () => {
    const limit = 1024 * 1024;
    const fill = (size: number) => `{"data":{"a":"${'x'.repeat(size - 17)}"}}`;
    expect((await post(fill(limit))).status).toBe(200);
    expect((await post(fill(limit + 1))).json.error?.code).toBe('PAYLOAD_TOO_LARGE');
    const many = (size: number) => post(fill(size), { authorization: 'Bearer ann' }, '/many');
    expect((await many(10 * limit)).status).toBe(200);
    expect((await many(10 * limit + 1)).json.error?.code).toBe('PAYLOAD_TOO_LARGE');
    const bomb = gzipSync(Buffer.alloc(50 * 1024 * 1024, 32));
    expect(bomb.length).toBeLessThan(100_000);
    expect((await post(bomb, { 'content-encoding': 'gzip' })).status).toBe(413);
    expect((await post(gzipSync('{"data":{"a":1}}'), { 'content-encoding': 'gzip' })).status).toBe(200);
    expect((await post(gzipSync(fill(64 * 1024)), { 'content-encoding': 'gzip' })).status).toBe(200);
    const sparse = await post(gzipSync(fill(1024 * 1024)), { 'content-encoding': 'gzip' });
    expect([sparse.status, sparse.json.error?.message]).toEqual([413, expect.stringContaining('100 times')]);
    const chunked = await new Promise<number | undefined>((resolve, reject) => {
      const request = http.request(
        `${server.url}/api/v1/data`,
        { method: 'POST', headers: { 'content-type': 'application/json', 'transfer-encoding': 'chunked' } },
        (response) => resolve(response.resume().statusCode),
      );
      request.on('error', reject);
      const chunk = Buffer.alloc(1024 * 1024, 32);
      for (let i = 0; i < 11; i++) request.write(chunk);
      request.end();
    });
    expect(chunked).toBe(413);
  });

  it('takes JSON only', async () => {
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', '']) {
      const { status, json } = await post('{"data":{}}', { 'content-type': type });
      expect([type, status, json.error?.code]).toEqual([type, 415, 'UNSUPPORTED_MEDIA_TYPE']);
    }
    expect((await post('{"data":{}}', { 'content-type': 'application/vnd.nexus+json; charset=utf-8' })).status).toBe(
      200,
    );
    expect((await post('x', { 'content-encoding': 'lzma' })).status).toBe(415);
    expect((await post('not gzip', { 'content-encoding': 'gzip' })).status).toBe(400);
  });

  it('answers what is no HTTP in the shape of every error', async () => {
    const bad = await raw(server.port, 'HELLO\r\n\r\n');
    expect(bad.text).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(JSON.parse(bad.text.split('\r\n\r\n')[1])).toMatchObject({
      success: false,
      error: { code: 'VALIDATION_ERROR' },
    });
    const large = await raw(server.port, `GET /healthz HTTP/1.1\r\nHost: x\r\nX-Big: ${'x'.repeat(20_000)}\r\n\r\n`);
    expect(large.text).toMatch(/^HTTP\/1\.1 431 /);
    expect(large.text).toContain('HEADERS_TOO_LARGE');
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
  });

  it('holds the ordinary way to the limits of the lean one', async () => {
    server.app.get(LeanRoutes).register({
      path: '/data',
      anyOf: [],
      audit: 'minute',
      limits: { maxDepth: 4, maxKeys: 20_000, maxValues: 20_000, maxKeyLength: 8 },
      handle: async () => ({ status: 299, body: {} }),
    });
    const many = JSON.stringify({ data: Object.fromEntries(Array.from({ length: 15_000 }, (_, i) => [`k${i}`, 1])) });
    const lean = { authorization: 'Bearer ann' };
    const ordinary = { ...lean, 'idempotency-key': 'a' };
    expect([(await post(many, lean)).status, (await post(many, ordinary)).status]).toEqual([299, 200]);
    const deep = '{"data":{"a":{"b":{"c":1}}}}';
    expect([(await post(deep, lean)).status, (await post(deep, ordinary)).status]).toEqual([299, 200]);
    const deeper = '{"data":{"a":{"b":{"c":{"d":1}}}}}';
    expect([(await post(deeper, lean)).status, (await post(deeper, ordinary)).status]).toEqual([400, 400]);
  });
});

describe('slow clients', () => {
  it('are cut while they send headers or a body', async () => {
    const server = await startHarness([GateController], {}, { headers: 400, request: 800, checkEvery: 50 });
    try {
      const head = await raw(server.port, 'GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ');
      expect(head.text).toMatch(/^HTTP\/1\.1 408 /);
      expect(head.closedAfterMs).toBeLessThan(5000);
      const body = await raw(
        server.port,
        'POST /api/v1/data HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"data"',
      );
      expect(body.text).toMatch(/^HTTP\/1\.1 408 /);
      expect(body.text).toContain('"code":"TIMEOUT"');
      expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
      const silent = net.connect({ port: server.port, host: '127.0.0.1', allowHalfOpen: true }).pause();
      silent.on('error', () => undefined);
      silent.write(
        'POST /api/v1/data HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{',
      );
      await eventually(() => server.app.get(InFlight).size === 1);
      await eventually(() => server.app.get(InFlight).size === 0);
      silent.destroy();
    } finally {
      await server.stop();
    }
  });
});

describe('requests in work', () => {
  let server: Harness;
  beforeAll(async () => {
    server = await startHarness([GateController], { NEXUS_MAX_CONCURRENT_REQUESTS: '3' });
    server.app.get(LeanRoutes).register({
      path: '/lean',
      anyOf: [],
      audit: 'minute',
      limits: { maxDepth: 8, maxKeys: 100, maxValues: 1000, maxKeyLength: 64 },
      handle: async () => {
        await new Promise<void>((resolve) => open.push(resolve));
        return { status: 202, body: {} };
      },
    });
  });
  afterAll(() => server.stop());
  const lean = () =>
    api(server, '/lean', {
      method: 'POST',
      headers: { authorization: 'Bearer ann', 'content-type': 'application/json' },
      body: '{}',
    });
  const waiting = (count: number) => vi.waitFor(() => expect(open).toHaveLength(count));
  const release = (): void => {
    for (const resolve of open.splice(0)) resolve();
  };

  it('are bounded: more get 503 and when to come back; probes and streams hold no place', async () => {
    const stream = await api(server, '/ticks');
    const reader = stream.body!.getReader();
    await reader.read();
    const held = [api(server, '/patient'), api(server, '/patient'), lean()];
    await waiting(3);
    for (const refused of [await api(server, '/data', { method: 'POST' }), await lean()]) {
      expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1']);
      expect(await refused.json()).toMatchObject({
        success: false,
        error: { code: 'SERVICE_UNAVAILABLE', retry_after: 1 },
      });
    }
    expect((await fetch(`${server.url}/readyz`)).status).toBe(200);
    expect((await server.app.get(Metrics).render(false)).text).toMatch(/nexus_http_requests_in_flight 4/);
    release();
    expect((await Promise.all(held)).map((response) => response.status)).toEqual([200, 200, 202]);
    await reader.cancel();
    expect((await api(server, '/data', { method: 'POST' })).status).toBe(400);
  });
});

describe.skipIf(process.platform !== 'linux')('requests in work of one address', () => {
  it('leave places to others', async () => {
    const server = await startHarness([GateController], { NEXUS_MAX_CONCURRENT_REQUESTS: '4' });
    open = [];
    const from = (localAddress: string) =>
      new Promise<number | undefined>((resolve, reject) => {
        http
          .get(`${server.url}/api/v1/patient`, { localAddress }, (response) => resolve(response.resume().statusCode))
          .on('error', reject);
      });
    try {
      const held = [1, 2, 3].map(() => from('127.0.0.1'));
      await vi.waitFor(() => expect(open).toHaveLength(3));
      expect(await from('127.0.0.1')).toBe(503);
      const other = from('127.0.0.2');
      await vi.waitFor(() => expect(open).toHaveLength(4));
      expect(await from('127.0.0.3')).toBe(503);
      for (const resolve of open.splice(0)) resolve();
      expect(await Promise.all([...held, other])).toEqual([200, 200, 200, 200]);
    } finally {
      for (const resolve of open.splice(0)) resolve();
      await server.stop();
    }
  });
});

describe('a stop', () => {
  it('lets requests finish, ends streams, and takes nothing new', async () => {
    const server = await startHarness([GateController]);
    open = [];
    try {
      const [work, ticks, polite] = [api(server, '/gate'), api(server, '/ticks'), api(server, '/polite')];
      const streams = [await ticks, await polite];
      await vi.waitFor(() => expect(open).toHaveLength(1));
      const drained = drainHttp(server.app);
      const [, goodbye] = await Promise.all(streams.map((stream) => stream.text()));
      expect(goodbye).toBe('data: hello\n\ndata: goodbye\n\n');
      await vi.waitFor(() => expect(fetch(`${server.url}/healthz`)).rejects.toThrow());
      open[0]();
      const response = await work;
      expect([response.status, response.headers.get('connection')]).toEqual([200, 'close']);
      expect(await response.json()).toEqual({ opened: true });
      await drained;
      expect(server.app.get(InFlight).size).toBe(0);
    } finally {
      for (const resolve of open) resolve();
      await server.stop();
    }
  });

  it('does not wait longer than it may', async () => {
    const server = await startHarness([GateController]);
    open = [];
    try {
      const work = api(server, '/gate').catch(() => 'cut');
      await vi.waitFor(() => expect(open).toHaveLength(1));
      await drainHttp(server.app, 50);
      expect(server.app.get(InFlight).size).toBe(1);
      server.app.getHttpServer().closeAllConnections();
      expect(await work).toBe('cut');
    } finally {
      open[0]();
      await server.stop();
    }
  });
});
