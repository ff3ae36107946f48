import type { IncomingMessage, ServerResponse } from 'node:http';

/** Sends a small JSON answer without Express. Keeps headers that were set on the response. Does nothing when an answer was already sent. */
export function sendJson(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  body: object,
  headers: Record<string, string> = {},
): void {
  if (response.destroyed || response.headersSent) return;
  // Node sends a string together with the headers in one write, but a buffer in a second one.
  const text = JSON.stringify(body);
  const lines = [
    'Content-Type',
    'application/json; charset=utf-8',
    'Content-Length',
    String(Buffer.byteLength(text)),
    'Cache-Control',
    'no-store',
    'X-Content-Type-Options',
    'nosniff',
  ];
  if (mustClose(request)) lines.push('Connection', 'close');
  for (const name in headers) lines.push(name, headers[name]);
  response.writeHead(status, lines);
  response.end(text);
}

/** An unread body of at most this size is received and discarded after the answer, so that the connection can be kept. */
const SMALL_REST = 64 * 1024;

/** True when too much of the body is unread for the connection to be used again. */
export function mustClose({ complete, headers }: IncomingMessage): boolean {
  return !complete && !(Number(headers['content-length']) <= SMALL_REST);
}
