import { createPublicKey, randomUUID, verify } from 'node:crypto';
import { once } from 'node:events';
import {
  type AgentFrame,
  type CommandEnvelope,
  LINK_PATH,
  LINK_SUBPROTOCOL,
  PROTOCOL_VERSION,
  type ServerFrame,
} from '@nexus/agent/protocol';
import WebSocket from 'ws';
import type { TestApp } from './app.js';
import { eventually } from './eventually.js';

type Hello = Extract<AgentFrame, { type: 'hello' }>;
type Result = Extract<AgentFrame, { type: 'command_result' }>;
type FrameOf<T extends ServerFrame['type']> = Extract<ServerFrame, { type: T }>;

export interface RegisteredAgent {
  id: string;
  uuid: string;
  name: string;
  key: string;
}

/** Registers an agent through the API. */
export async function registerAgent(
  app: TestApp,
  adminKey: string,
  more: { labels?: Record<string, string>; endpoint?: string; agent_type?: string; agent_name?: string } = {},
): Promise<RegisteredAgent> {
  const name = more.agent_name ?? `agent-${randomUUID().slice(0, 8)}`;
  const { status, body, text } = await app.call<{ agent_id: string; api_key: string }>('POST', '/api/v1/ai/agents', {
    key: adminKey,
    body: { agent_type: 'host', version: '1.0.0', capabilities: [], ...more, agent_name: name },
  });
  if (status !== 201) throw new Error(`not registered: ${status} ${text}`);
  return { id: body.agent_id, uuid: body.agent_id.slice('agent_'.length), name, key: body.api_key };
}

/** On the link commands go by their UUID, without the prefix of the API. */
export function bare(commandId: string): string {
  return commandId.replace(/^cmd_/, '');
}

/** An agent that does on its link exactly what a test tells it to, and checks every signature. */
export class FakeAgent {
  readonly frames: ServerFrame[] = [];
  /** Commands received, in order. */
  readonly commands: CommandEnvelope[] = [];
  /** Called with each command; e.g. to answer it at once. */
  onCommand: ((command: CommandEnvelope) => void) | undefined;

  private constructor(
    readonly agent: RegisteredAgent,
    private readonly ws: WebSocket,
  ) {
    ws.on('error', () => undefined);
    ws.on('message', (data: Buffer) => this.receive(JSON.parse(data.toString()) as ServerFrame));
  }

  /** Opens the link and waits for its welcome. */
  static async connect(
    url: string,
    agent: RegisteredAgent,
    hello: Partial<Hello> = {},
    onCommand?: (fake: FakeAgent, command: CommandEnvelope) => void,
  ): Promise<FakeAgent> {
    const ws = new WebSocket(`${url.replace('http', 'ws')}/api/v1/${LINK_PATH}`, LINK_SUBPROTOCOL, {
      headers: { authorization: `Bearer ${agent.key}` },
    });
    const fake = new FakeAgent(agent, ws);
    if (onCommand) fake.onCommand = (command) => onCommand(fake, command);
    await once(ws, 'open');
    fake.send({
      type: 'hello',
      protocol: PROTOCOL_VERSION,
      agent_version: '1.0.0',
      boot_id: randomUUID(),
      hostname: 'test',
      platform: 'linux',
      labels: {},
      capabilities: [],
      commands: ['system.ping', 'system.info', 'execute_task'].map((type) => ({ type })),
      unfinished: [],
      ...hello,
    });
    await fake.received('welcome');
    return fake;
  }

  send(frame: AgentFrame): void {
    this.ws.send(JSON.stringify(frame));
  }

  ack(commandId: string): void {
    this.send({ type: 'command_ack', command_id: bare(commandId) });
  }

  start(commandId: string): void {
    this.send({ type: 'command_started', command_id: bare(commandId), started_at: new Date().toISOString() });
  }

  output(commandId: string, offset: number, data: string | Buffer, stream: 'stdout' | 'stderr' = 'stdout'): void {
    const text = typeof data === 'string';
    this.send({
      type: 'command_output',
      command_id: bare(commandId),
      stream,
      offset,
      encoding: text ? 'utf8' : 'base64',
      data: text ? data : data.toString('base64'),
    });
  }

  result(commandId: string, more: Partial<Result> = {}): void {
    this.send({
      type: 'command_result',
      command_id: bare(commandId),
      status: 'completed',
      message: 'done',
      exit_code: 0,
      signal: null,
      started_at: new Date().toISOString(),
      completed_at: new Date().toISOString(),
      duration_ms: 5,
      output_bytes: 0,
      output_truncated: false,
      ...more,
    });
  }

  /** Acknowledges, starts, prints and completes. */
  execute(commandId: string, output = ''): void {
    this.ack(commandId);
    this.start(commandId);
    if (output) this.output(commandId, 0, output);
    this.result(commandId, { output_bytes: Buffer.byteLength(output) });
  }

  /** The first frame of a type that meets the condition, now or soon. */
  received<T extends ServerFrame['type']>(
    type: T,
    condition: (frame: FrameOf<T>) => boolean = () => true,
  ): Promise<FrameOf<T>> {
    return eventually(() => this.frames.find((f): f is FrameOf<T> => f.type === type && condition(f as FrameOf<T>)));
  }

  command(commandId: string): Promise<CommandEnvelope> {
    return eventually(() => this.commands.find((command) => command.command_id === bare(commandId)));
  }

  async close(): Promise<void> {
    if (this.ws.readyState === WebSocket.CLOSED) return;
    const closed = once(this.ws, 'close');
    this.ws.terminate();
    await closed;
  }

  private receive(frame: ServerFrame): void {
    this.frames.push(frame);
    if (frame.type !== 'command') return;
    const [welcome] = this.frames.filter((f) => f.type === 'welcome');
    const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: welcome.signing_key }, format: 'jwk' });
    if (!verify(null, Buffer.from(frame.envelope), key, Buffer.from(frame.signature, 'hex'))) {
      throw new Error('a command came with a wrong signature');
    }
    const command = JSON.parse(frame.envelope) as CommandEnvelope;
    if (command.agent_id !== this.agent.id) throw new Error('a command came for another agent');
    this.commands.push(command);
    this.onCommand?.(command);
  }
}
