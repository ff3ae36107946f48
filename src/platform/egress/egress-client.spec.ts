import { createServer as createHttp, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { createServer as createTcp, type AddressInfo, type Server, Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { systemSockets } from './pinned-connection.js';
import { parseTarget, type Target } from './target.js';
import { EgressClient, type EgressOptions, type EgressRequest } from './egress-client.js';

// Self-signed for hooks.example.test and 127.0.0.1, valid until 2126; used by nothing but this file.
const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgoIbIfFQIscHxf1xs
2pJpgVPlcnXzY7j6BEcGmqy1oGahRANCAAS0XJ95AoQ/48CsXml6HFJ/AQpwwOU+
KDT2qcxM9OAdHaXlWQcvIQ6GxXG2aac4wxX1KO7DrW4N4EdjdvWaTeOz
-----END PRIVATE KEY-----`;
const CERT = `-----BEGIN CERTIFICATE-----
MIIBtjCCAVygAwIBAgIUJuAuHE2KNzJc6rp6/5gVaeuqWoowCgYIKoZIzj0EAwIw
HTEbMBkGA1UEAwwSaG9va3MuZXhhbXBsZS50ZXN0MCAXDTI2MTEyMTA2MjQ0MloY
DzIxMjYxMDI4MDYyNDQyWjAdMRswGQYDVQQDDBJob29rcy5leGFtcGxlLnRlc3Qw
WTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAS0XJ95AoQ/48CsXml6HFJ/AQpwwOU+
KDT2qcxM9OAdHaXlWQcvIQ6GxXG2aac4wxX1KO7DrW4N4EdjdvWaTeOzo3gwdjAd
BgNVHQ4EFgQUtu7UNXzwi/8lMFwZsdVk29LVWTMwHwYDVR0jBBgwFoAUtu7UNXzw
i/8lMFwZsdVk29LVWTMwDwYDVR0TAQH/BAUwAwEB/zAjBgNVHREEHDAaghJob29r
cy5leGFtcGxlLnRlc3SHBH8AAAEwCgYIKoZIzj0EAwIDSAAwRQIhALKtCBAG8zYX
JYOm3JyAl1LMEm7iMSkggDJFA31693CWAiBm5e6+5B4HbJb1NuYSSAe+YQIx7KWP
iqducJHFHh5BTQ==
-----END CERTIFICATE-----`;

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

interface Sink {
  port: number;
  url: string;
  connections: number;
  /** Resolves when every connection so far was closed. */
  drained(): Promise<void>;
}

async function listen(server: Server): Promise<Sink> {
  const open = new Set<Promise<void>>();
  const sockets = new Set<Socket>();
  const sink: Sink = { port: 0, url: '', connections: 0, drained: async () => void (await Promise.all(open)) };
  server.on('connection', (socket: Socket) => {
    sink.connections++;
    sockets.add(socket);
    socket.on('error', () => undefined);
    open.add(new Promise((resolve) => socket.on('close', () => resolve())));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  sink.port = (server.address() as AddressInfo).port;
  sink.url = `http://127.0.0.1:${sink.port}/`;
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => server.close(resolve));
  });
  return sink;
}

const http = (handler: (request: IncomingMessage, response: ServerResponse) => void): Promise<Sink> =>
  listen(createHttp(handler));
const tcp = (handler: (socket: Socket) => void): Promise<Sink> => listen(createTcp(handler));

function clientWith(o: Partial<EgressOptions> = {}): EgressClient {
  const client = new EgressClient({ allow: ['127.0.0.0/8'], ...o });
  cleanups.push(() => client.close());
  return client;
}
const codeOf = (client: EgressClient, url: string, o: Partial<EgressRequest> = {}): Promise<string> =>
  client.request({ method: 'GET', url, ...o }).then(
    () => 'answered',
    (error: Error & { code?: string }) => error.code ?? error.message,
  );

describe('a request', () => {
  it('sends method, path, headers and body as given and brings back the answer', async () => {
    const sink = await http((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        response.writeHead(202, { 'X-Many': ['a', 'b'], 'Content-Type': 'application/json' });
        const { method, url, headers } = request;
        response.end(JSON.stringify({ method, url, headers, body: Buffer.concat(chunks).toString() }));
      });
    });
    const client = clientWith();
    const response = await client.request({
      method: 'POST',
      url: `${sink.url}hook?a=b%20c#gone`,
      headers: { 'X-Nexus-Signature': 'sha256=00' },
      body: Buffer.from('{"a":"é"}'),
    });
    expect(response).toMatchObject({ status: 202, truncated: false, remoteAddress: '127.0.0.1' });
    expect(response.headers).toMatchObject({ 'x-many': 'a, b', 'content-type': 'application/json' });
    expect(response.durationMs).toBeGreaterThanOrEqual(0);
    expect(JSON.parse(response.body.toString())).toMatchObject({
      method: 'POST',
      url: '/hook?a=b%20c',
      body: '{"a":"é"}',
      headers: {
        'x-nexus-signature': 'sha256=00',
        host: `127.0.0.1:${sink.port}`,
        'content-length': '10',
        connection: 'close',
      },
    });
    await sink.drained();
  });

  it('returns redirects and errors as they are, and follows nothing', async () => {
    const asked: string[] = [];
    const sink = await http((request, response) => {
      asked.push(request.url ?? '');
      response.writeHead(request.url === '/500' ? 500 : 302, { Location: `http://127.0.0.1:${sink.port}/secret` });
      response.end();
    });
    const client = clientWith();
    expect(await client.request({ method: 'GET', url: sink.url })).toMatchObject({
      status: 302,
      headers: { location: `${sink.url}secret` },
    });
    expect(await client.request({ method: 'GET', url: `${sink.url}500` })).toMatchObject({ status: 500 });
    expect(asked).toEqual(['/', '/500']);
    expect(sink.connections).toBe(2);
  });

  it('cannot set the headers that frame a request or name its host', async () => {
    const sink = await http((_request, response) => response.end());
    const client = clientWith();
    for (const name of ['Host', 'content-length', 'Transfer-Encoding', 'CONNECTION', 'upgrade']) {
      expect(await codeOf(client, sink.url, { headers: { [name]: '1' } })).toBe('PROTOCOL');
    }
    expect(sink.connections).toBe(0);
    expect(await codeOf(client, sink.url, { headers: { 'x-bad': 'a\r\nInjected: 1' } })).toBe('PROTOCOL');
    expect(await codeOf(client, sink.url, { method: 'GET / HTTP/1.1\r\nX' })).toBe('PROTOCOL');
  });
});

describe('a hostile host', () => {
  const limits = { totalTimeoutMs: 300, maxResponseBytes: 1000 };

  it('that never answers is left in time, and its connection closed', async () => {
    const sink = await http(() => undefined);
    expect(await codeOf(clientWith(limits), sink.url)).toBe('TIMEOUT');
    await sink.drained();
  });

  it('that drips its head or its body for ever is left in time', async () => {
    const drip =
      (head: string) =>
      (socket: Socket): void => {
        socket.write(head);
        const timer = setInterval(() => socket.write('x'), 10);
        socket.on('close', () => clearInterval(timer));
      };
    for (const head of [
      'HTTP/1.1 200 OK\r\nX-Long: ',
      'HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n',
      'HTTP/1.1 200 OK\r\n\r\n',
    ]) {
      const sink = await tcp(drip(head));
      const started = performance.now();
      expect(await codeOf(clientWith(limits), sink.url)).toBe('TIMEOUT');
      expect(performance.now() - started).toBeLessThan(5000);
      await sink.drained();
    }
  });

  it('that sends without end is cut at the limit', async () => {
    let sent = 0;
    const sink = await http((_request, response) => {
      const more = (): void => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536, 'a'))) sent += 65_536;
      };
      response.on('drain', more);
      more();
    });
    const response = await clientWith({ maxResponseBytes: 1000 }).request({ method: 'GET', url: sink.url });
    expect(response).toMatchObject({ status: 200, truncated: true });
    expect(response.body.toString()).toBe('a'.repeat(1000));
    await sink.drained();
    expect(sent).toBeLessThan(50_000_000);
  });

  it('that announces a huge body or sends exactly the limit is read to the limit', async () => {
    const sink = await http((request, response) => {
      if (request.url === '/exact') return void response.end('b'.repeat(1000));
      response.writeHead(200, { 'Content-Length': 1e12 });
      response.write('a'.repeat(2000));
    });
    const client = clientWith({ maxResponseBytes: 1000 });
    expect(await client.request({ method: 'GET', url: sink.url })).toMatchObject({ truncated: true });
    const exact = await client.request({ method: 'GET', url: `${sink.url}exact` });
    expect([exact.truncated, exact.body.length]).toEqual([false, 1000]);
  });

  it.each([
    ['garbage', 'SSH-2.0-OpenSSH_9.6\r\n', 'PROTOCOL'],
    ['nothing at all', '', 'PROTOCOL'],
    ['half a body', 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc', 'PROTOCOL'],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab', 'PROTOCOL'],
    [
      'a switch of protocol',
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
      'PROTOCOL',
    ],
    ['an endless head', `HTTP/1.1 200 OK\r\nX-Long: ${'x'.repeat(100_000)}\r\n\r\n`, 'TOO_LARGE'],
  ])('that sends %s is named for what it is', async (_what, answer, code) => {
    const sink = await tcp((socket) => void socket.once('data', () => socket.end(answer)));
    expect(await codeOf(clientWith(), sink.url)).toBe(code);
    await sink.drained();
  });

  it('that is not there is named so, and left alone after failures in a row', async () => {
    const sink = await tcp(() => undefined);
    for (const cleanup of cleanups.splice(0)) await cleanup();
    const client = clientWith({ failureLimit: 3 });
    const codes: string[] = [];
    for (let i = 0; i < 5; i++) codes.push(await codeOf(client, sink.url));
    expect(codes).toEqual(['CONNECT', 'CONNECT', 'CONNECT', 'CIRCUIT_OPEN', 'CIRCUIT_OPEN']);
  });

  it('gets a bounded number of requests at once', async () => {
    const waiting: ServerResponse[] = [];
    const sink = await http((_request, response) => void waiting.push(response));
    const client = clientWith({ maxPerHost: 2 });
    const running = [codeOf(client, sink.url), codeOf(client, sink.url)];
    expect(await codeOf(client, sink.url)).toBe('BUSY');
    await expect.poll(() => waiting.length).toBe(2);
    for (const response of waiting) response.end();
    expect(await Promise.all(running)).toEqual(['answered', 'answered']);
  });
});

describe('addresses of one host', () => {
  const named = (addresses: string[], o: Partial<EgressOptions> = {}): EgressClient =>
    clientWith({ resolver: async () => addresses.map((address) => ({ address, family: 4 })), ...o });

  it('are tried in turn', async () => {
    const sink = await http((request, response) => response.end(request.headers.host));
    const response = await named(['127.0.0.2', '127.0.0.1']).request({
      method: 'GET',
      url: `http://two.example.test:${sink.port}/`,
    });
    expect(response.body.toString()).toBe(`two.example.test:${sink.port}`);
    expect(response.remoteAddress).toBe('127.0.0.1');
  });

  it('that stay silent do not use up the time of the next, and are closed when they come late', async () => {
    const sink = await http((_request, response) => response.end());
    const late = new Socket();
    let arrive = (_socket: Socket): void => undefined;
    const real = systemSockets(1000);
    const client = named(['127.0.0.2', '127.0.0.1'], {
      connectTimeoutMs: 200,
      openSocket: (target, address) =>
        address === '127.0.0.2' ? new Promise((resolve) => (arrive = resolve)) : real(target, address),
    });
    expect(await codeOf(client, `http://slow.example.test:${sink.port}/`)).toBe('answered');
    arrive(late);
    await expect.poll(() => late.destroyed).toBe(true);
  });

  it('that all stay silent end in time', async () => {
    const client = named(['127.0.0.1'], { connectTimeoutMs: 50, openSocket: () => new Promise(() => undefined) });
    expect(await codeOf(client, 'http://silent.example.test/')).toBe('CONNECT');
    const nameless = clientWith({ totalTimeoutMs: 50, resolver: () => new Promise(() => undefined) });
    expect(await codeOf(nameless, 'http://silent.example.test/')).toBe('TIMEOUT');
  });
});

describe('TLS', () => {
  const secure = async (o: Partial<EgressOptions>, host = 'hooks.example.test'): Promise<[EgressClient, string]> => {
    const sink = await listen(createHttps({ key: KEY, cert: CERT }, (_request, response) => response.end('hello')));
    const client = clientWith({ resolver: async () => [{ address: '127.0.0.1', family: 4 }], ...o });
    return [client, `https://${host}:${sink.port}/`];
  };

  it('is verified against the name of the URL while the connection goes to the checked address', async () => {
    const [client, url] = await secure({ ca: CERT });
    for (let i = 0; i < 2; i++) {
      expect(await client.request({ method: 'GET', url })).toMatchObject({ status: 200, remoteAddress: '127.0.0.1' });
    }
  });

  it('is verified against the address where the URL names one, IPv6 included', async () => {
    const [client, url] = await secure({ ca: CERT }, '127.0.0.1');
    expect(await codeOf(client, url)).toBe('answered');
    const target = parseTarget(`https://[2606:4700::1111]:${new URL(url).port}/`) as Target;
    const socket = await systemSockets(1000, CERT)(target, '127.0.0.1');
    expect(socket).toMatchObject({ authorized: true, servername: false });
    socket.destroy();
  });

  it('is refused for another name and for an unknown issuer', async () => {
    for (const [o, host] of [
      [{ ca: CERT }, 'other.example.test'],
      [{}, 'hooks.example.test'],
    ] as const) {
      const [client, url] = await secure(o, host);
      expect(await codeOf(client, url)).toBe('TLS');
    }
  });

  it('is verified even when the process was told not to', async () => {
    const before = process.env.NODE_TLS_REJECT_UNAUTHORIZED;
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
    try {
      const [client, url] = await secure({});
      expect(await codeOf(client, url)).toBe('TLS');
    } finally {
      if (before === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
      else process.env.NODE_TLS_REJECT_UNAUTHORIZED = before;
    }
  });

  it('is missing on a plain port', async () => {
    const sink = await http((_request, response) => response.end());
    expect(await codeOf(clientWith(), `https://127.0.0.1:${sink.port}/`)).toBe('TLS');
  });
});

describe('giving up', () => {
  it('follows the signal of the caller with its own reason, before and during the request', async () => {
    const sink = await http(() => undefined);
    const client = clientWith();
    const controller = new AbortController();
    const running = client.request({ method: 'GET', url: sink.url, signal: controller.signal });
    await expect.poll(() => sink.connections).toBe(1);
    controller.abort(new Error('no longer wanted'));
    await expect(running).rejects.toThrow('no longer wanted');
    await expect(client.request({ method: 'GET', url: sink.url, signal: controller.signal })).rejects.toThrow(
      'no longer wanted',
    );
    await sink.drained();
    expect(sink.connections).toBe(1);
  });

  it('ends everything on close', async () => {
    const sink = await http(() => undefined);
    const client = clientWith();
    const running = codeOf(client, sink.url);
    await expect.poll(() => sink.connections).toBe(1);
    await client.close();
    expect(await running).toBe('BUSY');
    expect(await codeOf(client, sink.url)).toBe('BUSY');
    await sink.drained();
  });
});
