import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import {
  LINK_PATH,
  LINK_SUBPROTOCOL,
  PROTOCOL_VERSION,
  type AgentFrame,
  type ServerFrame,
} from '@nexus/agent/protocol';
import WebSocket from 'ws';
import { eventually } from '../support/eventually.js';

/** Path of the link on a server with the default prefix. */
const LINK_URL = `/api/v1/${LINK_PATH}`;

/** A bare client of the agent link: says exactly what a test tells it to. */
export class LinkClient {
  readonly frames: ServerFrame[] = [];
  closeCode: number | undefined;

  private constructor(readonly ws: WebSocket) {
    ws.on('message', (data: Buffer) => this.frames.push(JSON.parse(data.toString()) as ServerFrame));
    ws.on('close', (code) => {
      this.closeCode = code;
    });
    ws.on('error', () => undefined);
  }

  static async open(url: string, key: string): Promise<LinkClient> {
    const ws = new WebSocket(url.replace('http', 'ws') + LINK_URL, LINK_SUBPROTOCOL, {
      headers: { authorization: `Bearer ${key}` },
    });
    const client = new LinkClient(ws);
    await once(ws, 'open');
    return client;
  }

  /** Opens the link and waits for its welcome. */
  static async welcomed(url: string, key: string, hello: Partial<Hello> = {}): Promise<LinkClient> {
    const client = await LinkClient.open(url, key);
    client.send({ ...HELLO, ...hello });
    await client.received('welcome');
    return client;
  }

  send(frame: AgentFrame | object | string): void {
    this.ws.send(typeof frame === 'string' ? frame : JSON.stringify(frame));
  }

  received<T extends ServerFrame['type']>(type: T): Promise<Extract<ServerFrame, { type: T }>> {
    return eventually(() => this.frames.find((f): f is Extract<ServerFrame, { type: T }> => f.type === type));
  }

  closed(): Promise<number> {
    return eventually(() => this.closeCode);
  }

  close(): void {
    this.ws.terminate();
  }
}

type Hello = Extract<AgentFrame, { type: 'hello' }>;

export const HELLO: Hello = {
  type: 'hello',
  protocol: PROTOCOL_VERSION,
  agent_version: '1.2.3',
  boot_id: 'boot-1',
  hostname: 'web-1.example.com',
  platform: 'linux x64',
  labels: { role: 'web' },
  capabilities: ['metrics'],
  commands: [{ type: 'system.ping' }],
  unfinished: [],
};

/** What a server answers to an upgrade it refuses. */
export async function refusedUpgrade(
  url: string,
  options: { path?: string; protocol?: string; headers?: Record<string, string> } = {},
): Promise<{ status: number; body: { error: { code: string } } }> {
  const { path = LINK_URL, protocol = LINK_SUBPROTOCOL, headers = {} } = options;
  const ws = new WebSocket(url.replace('http', 'ws') + path, protocol, { headers });
  ws.on('error', () => undefined);
  const [, response] = (await once(ws, 'unexpected-response')) as [unknown, IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return {
    status: response.statusCode ?? 0,
    body: JSON.parse(Buffer.concat(chunks).toString()) as { error: { code: string } },
  };
}
