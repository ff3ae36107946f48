import { once } from 'node:events';
import net from 'node:net';

/** Forwards connections to a port of loopback until it is told to drop everything, as a network that lost the other side does. */
export class TcpProxy {
  private readonly pairs = new Set<[net.Socket, net.Socket]>();
  private dropping = false;

  private constructor(
    private readonly server: net.Server,
    private readonly target: number,
  ) {
    server.on('connection', (socket) => this.forward(socket));
  }

  static async start(target: number): Promise<TcpProxy> {
    const server = net.createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new TcpProxy(server, target);
  }

  get port(): number {
    return (this.server.address() as net.AddressInfo).port;
  }

  /** Nothing passes any more on open connections, and new ones are not answered; nobody is told. */
  drop(): void {
    this.dropping = true;
    for (const pair of this.pairs) for (const socket of pair) socket.pause();
  }

  /** New connections pass again; the old ones stay dead, and their server is gone, so that it keeps none of them. */
  restore(): void {
    this.dropping = false;
    for (const [, server] of this.pairs) server.removeAllListeners('close').destroy();
  }

  stop(): void {
    this.server.close();
    for (const pair of this.pairs) for (const socket of pair) socket.destroy();
  }

  private forward(socket: net.Socket): void {
    const other = net.connect(this.target, '127.0.0.1');
    const pair: [net.Socket, net.Socket] = [socket, other];
    this.pairs.add(pair);
    for (const [from, to] of [pair, [other, socket] as const]) {
      from.on('error', () => undefined);
      from.on('data', (data) => to.write(data));
      from.on('close', () => {
        to.destroy();
        this.pairs.delete(pair);
      });
    }
    if (!this.dropping) socket.resume();
  }
}
