import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { isTrustedProxy } from './client-ip.js';
import { networkOf } from './client-network.js';

/**
 * Closes new connections of a client network that already has `most`, open WebSockets included, so that one client cannot use up
 * the connections of the server. Trusted proxies are exempt, because they stand for many clients.
 */
export function shareConnections(server: Server, most: number): void {
  const open = new Map<string, number>();
  server.on('connection', (socket: Socket) => {
    if (isTrustedProxy(server, socket.remoteAddress)) return;
    const network = networkOf(socket.remoteAddress);
    const count = (open.get(network) ?? 0) + 1;
    if (count > most) {
      socket.destroy();
      return;
    }
    open.set(network, count);
    socket.once('close', () => {
      const rest = (open.get(network) ?? 1) - 1;
      if (rest > 0) open.set(network, rest);
      else open.delete(network);
    });
  });
}
