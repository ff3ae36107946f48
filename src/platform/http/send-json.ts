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
  // What is left of the body is not read: the connection cannot be used again.
  if (!request.complete) lines.push('Connection', 'close');
  for (const name in headers) lines.push(name, headers[name]);
  response.writeHead(status, lines);
  response.end(text);
}
