import { once } from 'node:events';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { trustProxies } from './client-ip.js';
import { shareConnections } from './connection-share.js';

let server: http.Server;
const sockets: net.Socket[] = [];

async function connect(localAddress: string): Promise<net.Socket> {
  const socket = net.connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', localAddress });
  sockets.push(socket.on('error', () => undefined));
  await once(socket, 'connect');
  return socket;
}

/** Whether the server answers on this connection. */
async function isServed(socket: net.Socket): Promise<boolean> {
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  return Promise.race([once(socket, 'data').then(() => true), once(socket, 'close').then(() => false)]);
}

beforeEach(async () => {
  server = http.createServer((_request, response) => response.end('ok'));
  shareConnections(server, 3);
  await once(server.listen(0, '127.0.0.1'), 'listening');
});

afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  server.close();
});

describe('connections', () => {
  it('of one client leave room for others, and for its own once it has closed some', async () => {
    const held = [];
    for (let n = 0; n < 3; n++) held.push(await connect('127.0.0.1'));
    expect(await isServed(await connect('127.0.0.1'))).toBe(false);
    expect(await isServed(await connect('127.0.0.2'))).toBe(true);
    const closed = new Promise<void>((resolve) => server.getConnections(() => resolve()));
    held[0].destroy();
    await closed;
    await expect.poll(async () => isServed(await connect('127.0.0.1'))).toBe(true);
  });

  it('of a trusted proxy are not counted', async () => {
    trustProxies(server, ['127.0.0.0/30']);
    for (let n = 0; n < 5; n++) expect(await isServed(await connect('127.0.0.1'))).toBe(true);
  });
});
