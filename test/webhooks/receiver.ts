import { once } from 'node:events';
import http, { type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Received {
  path: string;
  headers: IncomingHttpHeaders;
  body: Buffer;
  at: number;
}

export type Answer = (response: ServerResponse, request: Received) => void;

/** A program that takes webhooks, on loopback; answers 204 unless told otherwise. */
export class Receiver {
  readonly received: Received[] = [];
  answer: Answer = (response) => response.writeHead(204).end();

  private constructor(private readonly server: http.Server) {}

  static async start(): Promise<Receiver> {
    const server = http.createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('error', () => undefined);
      response.on('error', () => undefined);
      request.on('end', () => {
        const { url = '', headers } = request;
        const received = { path: url, headers, body: Buffer.concat(chunks), at: Date.now() };
        receiver.received.push(received);
        receiver.answer(response, received);
      });
    });
    const receiver = new Receiver(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return receiver;
  }

  url(path = '/hook'): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}${path}`;
  }

  at(path: string): Received[] {
    return this.received.filter((one) => one.path === path);
  }

  async stop(): Promise<void> {
    if (!this.server.listening) return;
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }
}

/** Answers with this status. */
export function status(code: number, headers: Record<string, string> = {}, body = ''): Answer {
  return (response) => void response.writeHead(code, headers).end(body);
}

/** The bytes of the event, which are the same in every attempt. */
export function eventBytes({ body }: Received): string {
  return body.toString('utf8').split(',"delivery_info":')[0];
}

export interface Payload {
  id: string;
  type: string;
  event_type: string;
  timestamp: string;
  data: Record<string, unknown>;
  delivery_info: { attempt: number; max_attempts: number; next_retry: string | null };
}

export function payloadOf(received: Received): Payload {
  return JSON.parse(received.body.toString('utf8')) as Payload;
}
