import { generateKeyPairSync, type KeyObject, randomUUID, sign } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import type net from 'node:net';
import { type WebSocket, WebSocketServer } from 'ws';
import {
  type AgentFrame,
  type CommandEnvelope,
  type JoinRequest,
  LINK_PATH,
  LINK_SUBPROTOCOL,
  type ServerFrame,
  type TelemetryEventFrame,
} from '../src/protocol.js';

export type FrameOf<T extends AgentFrame['type']> = Extract<AgentFrame, { type: T }>;

/** What the fake remembers of a command. */
export interface KnownCommand {
  frame: Extract<ServerFrame, { type: 'command' }>;
  acks: number;
  output: Buffer;
  streams: { stream: string; text: string }[];
  result?: FrameOf<'command_result'>;
  refused?: FrameOf<'command_refused'>;
}

/** A key pair of Ed25519; the public key as frames hold it. */
export function newSigningKey(): { publicKey: string; privateKey: KeyObject } {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  return { publicKey: String(publicKey.export({ format: 'jwk' }).x), privateKey };
}

/** The server's side of the agent link, in memory: acknowledges and remembers, and misbehaves on demand. */
export class FakeNexus {
  readonly joins: JoinRequest[] = [];
  readonly hellos: FrameOf<'hello'>[] = [];
  readonly heartbeats: FrameOf<'heartbeat'>[] = [];
  /** Stored events by id. */
  readonly events = new Map<string, TelemetryEventFrame>();
  /** Every batch frame that came, with repeats. */
  readonly batches: string[] = [];
  readonly commands = new Map<string, KnownCommand>();
  /** Join tokens that are still good. */
  readonly tokens = new Set<string>();
  /** Joins whose answer is lost on the way; the join itself counts. */
  loseJoinAnswers = 0;
  ackTelemetry = true;
  ackOutput = true;
  nackNext = 0;
  /** Sent right after each welcome. */
  afterWelcome: ServerFrame[] = [];
  readonly agentId = 'agent_0b7e9c1e-8f1d-4a53-9d0a-3f6f0c1d2e4b';
  readonly apiKey = 'nexus_agent_test_0123456789abcdef';
  /** Prefix of the API. */
  apiPath = '/api/v1';
  /** Signs commands; a test may replace it. */
  signing = newSigningKey();
  private readonly server = http.createServer((request, response) => void this.http(request, response));
  private readonly sockets = new WebSocketServer({ noServer: true, handleProtocols: () => LINK_SUBPROTOCOL });
  private readonly watchers = new Set<() => void>();
  private port = 0;

  private constructor() {
    this.server.on('upgrade', (request, socket: net.Socket, head) => {
      const authorized = request.headers.authorization === `Bearer ${this.apiKey}`;
      if (!authorized || request.url !== `${this.apiPath}/${LINK_PATH}`) {
        socket.end('HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 0\r\n\r\n');
        return;
      }
      this.sockets.handleUpgrade(request, socket, head, (link) => {
        link.on('message', (data: Buffer) => {
          this.receive(link, JSON.parse(data.toString()) as AgentFrame);
          this.changed();
        });
        link.on('close', () => this.changed());
      });
    });
  }

  static async start(): Promise<FakeNexus> {
    const fake = new FakeNexus();
    await fake.listen();
    return fake;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get links(): WebSocket[] {
    return [...this.sockets.clients].filter((link) => link.readyState === link.OPEN);
  }

  async listen(): Promise<void> {
    this.server.listen(this.port, '127.0.0.1');
    await once(this.server, 'listening');
    this.port = (this.server.address() as net.AddressInfo).port;
  }

  /** The server is gone: no link stands, no connection is taken. */
  async leave(): Promise<void> {
    for (const link of this.sockets.clients) link.terminate();
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }

  cutLinks(code?: number): void {
    for (const link of this.sockets.clients) {
      if (code) link.close(code);
      else link.terminate();
    }
  }

  send(frame: ServerFrame): void {
    for (const link of this.links) link.send(JSON.stringify(frame));
  }

  /** Signs and sends a command; returns its id. */
  command(
    type: string,
    parameters: Record<string, unknown> = {},
    change: Partial<CommandEnvelope> = {},
    signWith = this.signing.privateKey,
  ): string {
    const envelope: CommandEnvelope = {
      command_id: randomUUID(),
      agent_id: this.agentId,
      command_type: type,
      parameters,
      timeout_seconds: 60,
      expires_at: new Date(Date.now() + 3_600_000).toISOString(),
      issued_at: new Date().toISOString(),
      nonce: randomUUID(),
      ...change,
    };
    const text = JSON.stringify(envelope);
    const signature = sign(null, Buffer.from(text), signWith).toString('hex');
    const frame = { type: 'command' as const, envelope: text, signature };
    this.commands.set(envelope.command_id, { frame, acks: 0, output: Buffer.alloc(0), streams: [] });
    this.send(frame);
    return envelope.command_id;
  }

  known(id: string): KnownCommand {
    const command = this.commands.get(id);
    if (!command) throw new Error(`no command ${id}`);
    return command;
  }

  async result(id: string): Promise<FrameOf<'command_result'>> {
    return this.until(() => this.known(id).result, `the result of ${id}`);
  }

  async refusal(id: string): Promise<FrameOf<'command_refused'>> {
    return this.until(() => this.known(id).refused, `the refusal of ${id}`);
  }

  /** Resolves with the first truthy value; looked at after each frame and now and then. */
  async until<T>(look: () => T | undefined | false | null, what: string, ms = 20_000): Promise<T> {
    const end = Date.now() + ms;
    for (;;) {
      const value = look();
      if (value) return value;
      if (Date.now() > end) throw new Error(`waited ${ms} ms for ${what}`);
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          clearTimeout(timer);
          this.watchers.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, 25);
        this.watchers.add(wake);
      });
    }
  }

  private changed(): void {
    for (const watcher of [...this.watchers]) watcher();
  }

  private receive(link: WebSocket, frame: AgentFrame): void {
    const reply = (answer: ServerFrame): void => link.send(JSON.stringify(answer));
    if (frame.type === 'hello') {
      this.hellos.push(frame);
      const resume = frame.unfinished.map((command_id) => {
        const command = this.commands.get(command_id);
        return { command_id, next_offset: !command || command.result ? -1 : command.output.length };
      });
      reply({
        type: 'welcome',
        agent_id: this.agentId,
        name: 'test-agent',
        server_time: new Date().toISOString(),
        heartbeat_interval_ms: 1000,
        resume,
        signing_key: this.signing.publicKey,
      });
      for (const next of this.afterWelcome) reply(next);
    } else if (frame.type === 'heartbeat') this.heartbeats.push(frame);
    else if (frame.type === 'telemetry') this.takeBatch(frame, reply);
    else this.takeReport(frame, reply);
  }

  private takeBatch(frame: FrameOf<'telemetry'>, reply: (answer: ServerFrame) => void): void {
    this.batches.push(frame.batch_id);
    if (this.nackNext > 0) {
      this.nackNext--;
      reply({ type: 'telemetry_nack', batch_id: frame.batch_id, retry_after_ms: 100 });
      return;
    }
    if (!this.ackTelemetry) return;
    const fresh = frame.events.filter(({ event_id }) => !this.events.has(event_id));
    for (const event of fresh) this.events.set(event.event_id, event);
    reply({
      type: 'telemetry_ack',
      batch_id: frame.batch_id,
      accepted: fresh.length,
      duplicates: frame.events.length - fresh.length,
      rejected: [],
    });
  }

  private takeReport(
    frame: FrameOf<'command_ack' | 'command_started' | 'command_output' | 'command_result' | 'command_refused'>,
    reply: (answer: ServerFrame) => void,
  ): void {
    const command = this.commands.get(frame.command_id);
    if (!command) return;
    if (frame.type === 'command_ack') command.acks++;
    if (frame.type === 'command_refused') command.refused = frame;
    if (frame.type === 'command_output') {
      if (!this.ackOutput) return;
      const bytes = Buffer.from(frame.data, frame.encoding);
      const known = command.output.length - frame.offset;
      if (known >= 0 && known < bytes.length) {
        command.output = Buffer.concat([command.output, bytes.subarray(known)]);
        command.streams.push({ stream: frame.stream, text: bytes.subarray(known).toString() });
      }
      reply({ type: 'output_ack', command_id: frame.command_id, next_offset: command.output.length });
    }
    if (frame.type === 'command_result') {
      command.result = frame;
      reply({ type: 'result_ack', command_id: frame.command_id });
    }
  }

  private async http(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = JSON.parse(Buffer.concat(chunks).toString()) as JoinRequest;
    const repeated = this.joins.some(({ token, nonce }) => token === body.token && nonce === body.nonce);
    this.joins.push(body);
    this.changed();
    const good = request.url === `${this.apiPath}/ai/agents/join` && (this.tokens.delete(body.token) || repeated);
    if (this.loseJoinAnswers > 0) {
      this.loseJoinAnswers--;
      response.destroy();
      return;
    }
    response.writeHead(good ? 201 : 401, { 'content-type': 'application/json' });
    response.end(
      JSON.stringify(
        good
          ? {
              agent_id: this.agentId,
              agent_name: 'test-agent',
              api_key: this.apiKey,
              signing_key: this.signing.publicKey,
            }
          : { success: false, error: { code: 'INVALID_TOKEN', message: 'This join token is not valid' } },
      ),
    );
  }
}
