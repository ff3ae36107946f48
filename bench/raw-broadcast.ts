import type { AddressInfo } from 'node:net';
import { type RawData, type WebSocket, WebSocketServer } from 'ws';

/**
 * A bare `ws` server, run as a process of its own: each message of the parent, a list of frames, goes to all its clients at once.
 * What the fan-out of Nexus is measured against.
 */
const clients = new Set<WebSocket>();
const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false });
server.on('connection', (socket) => {
  clients.add(socket);
  socket.on('close', () => clients.delete(socket));
  socket.on('error', () => undefined);
  // The one client that does not listen says what is to be sent.
  socket.on('message', (data: RawData) => {
    clients.delete(socket);
    const frames = JSON.parse((data as Buffer).toString()) as string[];
    for (const frame of frames) {
      const bytes = Buffer.from(frame);
      for (const client of clients) client.send(bytes, { binary: false });
    }
  });
});
server.on('listening', () => process.send?.((server.address() as AddressInfo).port));
