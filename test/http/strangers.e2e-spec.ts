import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { brotliCompressSync, constants } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.js';
import { freePort, NexusProcess, ROOT, temporaryHome } from '../support/nexus-process.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';

/** Clock ticks a second in /proc. */
const TICKS = 100;
const MB = 1024 * 1024;

const home = temporaryHome();
let database: TestDatabase;
let nexus: NexusProcess;
let port: number;

/** CPU seconds the server process has used. */
function cpuSeconds(): number {
  const stat = readFileSync(`/proc/${nexus.child.pid}/stat`, 'utf8');
  const [user, system] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13);
  return (Number(user) + Number(system)) / TICKS;
}

/** Resident memory of the server process, in bytes. */
function residentBytes(): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${nexus.child.pid}/status`, 'utf8'))?.[1]) * 1024;
}

/** A raw connection that sends `head` and what follows; what comes back is collected. */
async function open(head: string, ...rest: Buffer[]): Promise<{ socket: net.Socket; text: () => string }> {
  const socket = net.connect(port, '127.0.0.1').setEncoding('latin1');
  let text = '';
  socket.on('data', (data: string) => (text += data)).on('error', () => undefined);
  await once(socket, 'connect');
  socket.write(head, 'latin1');
  for (const part of rest) socket.write(part);
  return { socket, text: () => text };
}

const post = (target: string, headers: string) =>
  `POST /api/v1${target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n${headers}\r\n\r\n`;

/** A login whose body is complete and wrong. */
const refused = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' };

async function inFlight(): Promise<number> {
  const text = await (await fetch(`${nexus.url}/metrics`)).text();
  return Number(/^nexus_http_requests_in_flight (\d+)/m.exec(text)?.[1]);
}

beforeAll(async () => {
  expect(existsSync(path.join(ROOT, 'dist/src/main.js')), 'npm run build first').toBe(true);
  database = await createTestDatabase();
  port = await freePort();
  nexus = await NexusProcess.start({
    home: home.path,
    port,
    env: { DATABASE_URL: database.url },
  });
});
afterAll(async () => {
  await nexus?.stop();
  await database?.drop();
  home.remove();
});

describe.skipIf(process.platform !== 'linux')('strangers', () => {
  it('cannot make the server unpack their bodies at length', async () => {
    const bomb = brotliCompressSync(Buffer.alloc(128 * MB, 32), {
      params: { [constants.BROTLI_PARAM_QUALITY]: 5 },
    });
    expect(bomb.length).toBeLessThan(10_000);
    const send = () =>
      fetch(`${nexus.url}/api/v1/auth/login`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'content-encoding': 'br' },
        body: new Uint8Array(bomb),
      }).then(async (response) => ((await response.json()) as { error: { code: string } }).error.code);
    expect(await send()).toBe('PAYLOAD_TOO_LARGE');
    // The heap of a process that has just started grows with its first requests, whatever they are.
    for (let n = 0; n < 200; n++) await (await fetch(`${nexus.url}/api/v1/auth/login`, refused)).arrayBuffer();
    const [cpu, memory] = [cpuSeconds(), residentBytes()];
    expect(new Set(await Promise.all(Array.from({ length: 40 }, send)))).toEqual(new Set(['PAYLOAD_TOO_LARGE']));
    // What still goes on after the answers would show within this time.
    const idle = await eventually(async () => {
      const before = cpuSeconds();
      await new Promise((resolve) => setTimeout(resolve, 500));
      return cpuSeconds() - before < 0.25 ? cpuSeconds() : undefined;
    }, 30_000);
    expect(idle - cpu).toBeLessThanOrEqual(2);
    expect(residentBytes() - memory).toBeLessThanOrEqual(32 * MB);
  });

  it('are told that a credential is missing before their body is read', async () => {
    const head = (size: number) => post('/ai/agents', `Content-Length: ${size}`);
    const large = await open(head(900_000), Buffer.from('{"name":'));
    await once(large.socket, 'close');
    expect(large.text()).toMatch(/^HTTP\/1\.1 401 /);
    expect(large.text()).toContain('"CREDENTIALS_MISSING"');
    expect(large.text()).toMatch(/\r\nConnection: close\r\n/);
    const small = await open(head(20), Buffer.from('{"name":'));
    await eventually(() => small.text().includes('"CREDENTIALS_MISSING"'));
    small.socket.write('123456789012GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
    await eventually(() => small.text().includes('HTTP/1.1 200 '));
    small.socket.destroy();
  });

  it('hold no place with bodies that they do not finish, read the answer or not', async () => {
    const sockets = await Promise.all(
      Array.from({ length: 500 }, async () => {
        const { socket } = await open(post('/auth/login', 'Content-Length: 1000'), Buffer.from('{"username":'));
        return socket.pause();
      }),
    );
    await eventually(async () => (await inFlight()) >= 500);
    for (let n = 0; n < 5; n++) {
      const answers = await Promise.all([
        fetch(`${nexus.url}/api/v1/auth/me`, { signal: AbortSignal.timeout(1000) }),
        fetch(`${nexus.url}/api/v1/auth/login`, { ...refused, signal: AbortSignal.timeout(1000) }),
      ]);
      expect(answers.map(({ status }) => status)).toEqual([401, 400]);
    }
    for (const socket of sockets) socket.destroy();
    await eventually(async () => (await inFlight()) < 500);
  });

  it.each([
    ['large', '/hooks/nothing', 60, Buffer.alloc(255 * 1024, 32)],
    ['tiny', '/auth/login', 40, null],
  ])('cannot fill its memory with bodies in %s pieces', async (_name, route, clients, large) => {
    const body = large
      ? Buffer.concat([Buffer.from(`${large.length.toString(16)}\r\n`), large, Buffer.from('\r\n')])
      : Buffer.from('1\r\n \r\n'.repeat(10_000));
    const memory = residentBytes();
    const chunked = post(route, 'Transfer-Encoding: chunked');
    const held = await Promise.all(Array.from({ length: clients }, () => open(chunked, body)));
    await eventually(() => held.filter(({ text }) => text().includes('Too many bytes')).length >= clients / 3);
    const refusals = held.filter(({ text }) => text().startsWith('HTTP/1.1 503 '));
    expect(refusals.every(({ text }) => text().includes('\r\nRetry-After: 1\r\n'))).toBe(true);
    expect(residentBytes() - memory).toBeLessThanOrEqual(64 * MB);
    // What is still held keeps nobody out.
    expect((await fetch(`${nexus.url}/api/v1/auth/login`, refused)).status).toBe(400);
    for (const { socket } of held) socket.destroy();
  });
});
