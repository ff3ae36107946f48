import { actor } from '../support/actors.js';
import { type Answer, startTestApp, type TestApp } from '../support/app.js';
import { eventually } from '../support/eventually.js';
import { FakeAgent, registerAgent, type RegisteredAgent } from '../support/fake-agent.js';

export interface Command {
  command_id: string;
  command_type: string;
  status: string;
  substatus: string;
  target: string;
  agent_id: string | null;
  created_at: string;
  completed_at: string | null;
  estimated_completion: string;
  attempts: number;
  result: {
    success: boolean;
    message: string;
    output: string;
    data: Record<string, unknown> | null;
    error: { code: string; message: string } | null;
    output_truncated: boolean;
    summary?: Record<string, number>;
  } | null;
  timeline: { at: string; status: string; detail?: string }[];
  children?: string[];
  retry_of: string | null;
  parent_id: string | null;
  error: { code: string; message: string; details: unknown };
}

type Script = Parameters<typeof FakeAgent.connect>[3];
type Hello = Parameters<typeof FakeAgent.connect>[2];

/** The server under test with an administrator and agents that do what a test says. */
export class Harness {
  private readonly fakes: FakeAgent[] = [];

  private constructor(
    readonly app: TestApp,
    readonly admin: string,
  ) {}

  static async start(env: Record<string, string> = {}): Promise<Harness> {
    const app = await startTestApp(env);
    return new Harness(app, (await actor(app)).key);
  }

  async stop(): Promise<void> {
    await this.disconnect();
    await this.app.stop();
  }

  async disconnect(): Promise<void> {
    for (const fake of this.fakes.splice(0)) await fake.close();
  }

  register(more: Parameters<typeof registerAgent>[2] = {}): Promise<RegisteredAgent> {
    return registerAgent(this.app, this.admin, more);
  }

  async connect(agent: RegisteredAgent, hello: Hello = {}, script?: Script): Promise<FakeAgent> {
    const fake = await FakeAgent.connect(this.app.url, agent, hello, script);
    this.fakes.push(fake);
    return fake;
  }

  /** A registered agent with its link. */
  async agent(more: Parameters<typeof registerAgent>[2] = {}, script?: Script): Promise<FakeAgent> {
    return this.connect(await this.register(more), {}, script);
  }

  post(body: object, key = this.admin): Promise<Answer<Command>> {
    return this.app.call('POST', '/api/v1/commands', { key, body });
  }

  /** Sends a `system.ping` and gives its id. */
  async send(target: string, more: object = {}): Promise<string> {
    const { status, body, text } = await this.post({ command_type: 'system.ping', target, ...more });
    if (status !== 201) throw new Error(`not accepted: ${status} ${text}`);
    return body.command_id;
  }

  async get(id: string): Promise<Command> {
    return (await this.app.call<Command>('GET', `/api/v1/commands/${id}`, { key: this.admin })).body;
  }

  cancel(id: string, query = ''): Promise<Answer<Command & { cancelled_at: string }>> {
    return this.app.call('DELETE', `/api/v1/commands/${id}${query}`, { key: this.admin });
  }

  until(id: string, substatus: string, timeoutMs?: number): Promise<Command> {
    return eventually(async () => {
      const command = await this.get(id);
      return command.substatus === substatus && command;
    }, timeoutMs);
  }

  async eventsOf(id: string): Promise<string[]> {
    const rows = await this.app.db.query<{ type: string }>(
      `SELECT type FROM events WHERE subject = $1 ORDER BY position`,
      [id],
    );
    return rows.map((row) => row.type);
  }
}

export function statuses(command: Command): string[] {
  return command.timeline.map((entry) => entry.status);
}
