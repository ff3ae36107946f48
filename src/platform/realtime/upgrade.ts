import http, { type IncomingMessage, type Server } from 'node:http';
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import type { Settings } from '../config/index.js';
import type { AppError } from '../errors/index.js';
import { renderError } from '../http/index.js';
import { CLOSE_POLICY } from './socket.js';
import type { Redeemed, SocketTickets } from './socket-tickets.js';

const BEARER_PROTOCOL = 'nexus.bearer.';
const GOODBYE_MS = 1000;

/** Subprotocols that a handshake offers. */
export function offered(header: string | undefined): string[] {
  return (header ?? '').split(',').map((name) => name.trim());
}

/** Answers an upgrade with an error body instead of a socket. */
export function refuse(stream: Duplex, own: Record<string, string>, error: unknown): number {
  const { status, headers, body } = renderError(error);
  const text = JSON.stringify(body);
  const head = {
    'Content-Type': 'application/json; charset=utf-8',
    'Content-Length': String(Buffer.byteLength(text)),
    'Cache-Control': 'no-store',
    Connection: 'close',
    ...own,
    ...headers,
  };
  const lines = Object.entries(head).map(([name, value]) => `${name}: ${value}\r\n`);
  stream.once('finish', () => stream.destroy());
  stream.end(`HTTP/1.1 ${status} ${http.STATUS_CODES[status] ?? ''}\r\n${lines.join('')}\r\n${text}`);
  return status;
}

/**
 * Once a server listens for upgrades, Node treats every request with an `Upgrade` header as one, also the HTTP/2 offer that
 * some clients add to ordinary requests. A server may ignore such an offer (RFC 9110, 7.8), so the request is handled again
 * without it.
 */
export function serveWithoutUpgrade(server: Server, request: IncomingMessage, stream: Duplex, head: Buffer): void {
  const lines = [`${request.method} ${request.url} HTTP/${request.httpVersion}`];
  for (let i = 0; i < request.rawHeaders.length; i += 2) {
    const name = request.rawHeaders[i];
    if (!['upgrade', 'connection', 'http2-settings'].includes(name.toLowerCase())) {
      lines.push(`${name}: ${request.rawHeaders[i + 1]}`);
    }
  }
  stream.unshift(Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), head]));
  server.emit('connection', stream);
}

/** The subprotocol to answer a browser with: it closes a socket that answers none of the subprotocols that it offered. */
export function chosenProtocol(protocols: Set<string>): string | false {
  const [first = false] = [...protocols].filter((name) => !name.startsWith(BEARER_PROTOCOL)).concat(...protocols);
  return first;
}

/** False for pages of origins other than this server's own and those of the setting. Clients without an `Origin` are no pages. */
export function originAllowed({ headers }: IncomingMessage, { allowedOrigins }: Settings): boolean {
  const { origin, host } = headers;
  if (origin === undefined || allowedOrigins.includes('*') || allowedOrigins.includes(origin)) return true;
  return host !== undefined && (origin === `https://${host}` || origin === `http://${host}`);
}

/**
 * The headers that carry the credential of a handshake. A client that cannot set headers offers the subprotocol
 * `nexus.bearer.<credential>`, or adds `?ticket=` to the URL, or `?token=` where a setting allows it.
 * @throws AppError `unauthenticated` when the ticket is not, or no longer, valid
 */
export async function credentialOf(
  request: IncomingMessage,
  tickets: SocketTickets,
  { streamTokenInUrl }: Settings,
): Promise<Pick<Redeemed, 'headers' | 'grant'>> {
  const { authorization, 'x-api-key': apiKey, 'sec-websocket-protocol': protocols } = request.headers;
  if (authorization !== undefined || apiKey !== undefined) {
    return { headers: { authorization, 'x-api-key': apiKey }, grant: undefined };
  }
  const bearer = offered(protocols).find((name) => name.startsWith(BEARER_PROTOCOL));
  if (bearer) return { headers: { authorization: `Bearer ${bearer.slice(BEARER_PROTOCOL.length)}` }, grant: undefined };
  const query = new URLSearchParams(request.url?.split('?')[1]);
  const [ticket, token] = [query.get('ticket'), query.get('token')];
  if (ticket === null) {
    const headers = token !== null && streamTokenInUrl ? { authorization: `Bearer ${token}` } : {};
    return { headers, grant: undefined };
  }
  return tickets.redeem(ticket);
}

/** Refuses a client over a socket opened only for that, because a page sees neither the status nor the body of a refused upgrade. */
export function turnAway(ws: WebSocket, { code, type, message }: AppError): void {
  ws.on('error', () => undefined);
  ws.send(JSON.stringify({ type: 'error', code, ...(type ? { reason: type } : {}), message }));
  ws.close(CLOSE_POLICY, message.slice(0, 100));
  setTimeout(() => ws.terminate(), GOODBYE_MS).unref();
}
