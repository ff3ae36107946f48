import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import WebSocket, { WebSocketServer } from 'ws';
import { systemActor } from '../context/index.js';
import { Socket } from './socket.js';

let server: WebSocketServer;
let client: WebSocket;
let accepted: WebSocket;
let stream: Duplex;
let socket: Socket;

beforeEach(async () => {
  server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const connection = once(server, 'connection') as Promise<[WebSocket, IncomingMessage]>;
  client = new WebSocket(`ws://127.0.0.1:${port}`);
  const [ws, request] = await connection;
  accepted = ws;
  await once(client, 'open');
  stream = request.socket;
  socket = new Socket(accepted, stream, systemActor);
});
afterEach(() => {
  client.terminate();
  server.close();
});

const closeOf = async (ws: WebSocket): Promise<number> => ((await once(ws, 'close')) as [number])[0];

describe('a socket', () => {
  it('is pinged every 25 seconds and stays when it answers', async () => {
    const start = Date.now();
    const pings = vi.fn();
    client.on('ping', pings);
    socket.beat(start + 20_000);
    const pong = once(accepted, 'pong');
    socket.beat(start + 26_000);
    await pong;
    expect(pings).toHaveBeenCalledTimes(1);
    expect(socket.heardAt).toBeGreaterThanOrEqual(start);
    expect(socket.open).toBe(true);
  });

  it('is closed after a minute of silence', async () => {
    const closed = closeOf(client);
    socket.beat(socket.heardAt + 60_000);
    expect(await closed).toBe(1006);
  });

  it('is not taken for silent while it is not read', () => {
    socket.pause();
    socket.beat(Date.now() + 60_000);
    expect(socket.open).toBe(true);
  });

  it('is closed when its reader takes nothing for 25 seconds, however little waits', async () => {
    vi.spyOn(accepted, 'bufferedAmount', 'get').mockReturnValue(100);
    const closed = closeOf(client);
    const start = Date.now();
    socket.beat(start);
    socket.beat(start + 24_000);
    expect(socket.open).toBe(true);
    socket.beat(start + 26_000);
    expect(await closed).toBe(1013);
  });

  it('is closed when more than a mebibyte would wait', async () => {
    vi.spyOn(accepted, 'bufferedAmount', 'get').mockReturnValue(1024 * 1024 - 10);
    const closed = closeOf(client);
    expect(socket.send({ text: 'a little too much' })).toBe(false);
    expect(await closed).toBe(1013);
    expect(socket.send({})).toBe(false);
  });

  it('takes no binary messages', async () => {
    const listener = vi.fn();
    socket.onMessage(listener);
    const closed = closeOf(client);
    client.send(Buffer.from('{}'), { binary: true });
    expect(await closed).toBe(1003);
    expect(listener).not.toHaveBeenCalled();
  });

  it('is read no faster than its rate allows, however much comes at once, and loses nothing', async () => {
    const limited = new Socket(accepted, stream, systemActor, undefined, { perSecond: 100, burst: 10, bytes: 1000 });
    const read: number[] = [];
    limited.onMessage((message) => read.push(message.length));
    const pause = vi.spyOn(accepted, 'pause');
    for (let n = 0; n < 10; n++) client.send('x');
    await vi.waitFor(() => expect(read.length).toBe(10));
    expect(pause).not.toHaveBeenCalled();
    const start = performance.now();
    client.send('x'.repeat(30_000));
    await vi.waitFor(() => expect(pause).toHaveBeenCalled());
    client.send('x');
    // A user of the socket that pauses it too does not end the wait.
    limited.pause();
    limited.resume();
    expect(accepted.isPaused).toBe(true);
    await vi.waitFor(() => expect(read.slice(10)).toEqual([30_000, 1]), 5000);
    expect(performance.now() - start).toBeGreaterThan(150);
    expect(limited.open).toBe(true);
  });

  it('is cut when its peer does not answer the close', async () => {
    client.pause();
    const closed = once(accepted, 'close');
    socket.close(1008, 'The credential was revoked');
    await closed;
    expect(socket.open).toBe(false);
  });
});
