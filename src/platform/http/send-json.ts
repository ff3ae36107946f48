import type { IncomingMessage, ServerResponse } from 'node:http';

/** Sends a small JSON answer without Express; headers already set on the response are kept. Does nothing once it is too late. */
export function sendJson(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  body: object,
  headers: Record<string, string> = {},
): void {
  if (response.destroyed || response.headersSent) return;
  // A string leaves with its headers in one write, a buffer in two.
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

/** A body of this size is let in and thrown away after the answer. */
const SMALL_REST = 64 * 1024;

/** Whether the connection cannot be used again because too much of the body was not read. */
export function mustClose({ complete, headers }: IncomingMessage): boolean {
  return !complete && !(Number(headers['content-length']) <= SMALL_REST);
}
