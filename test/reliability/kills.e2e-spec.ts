import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AgentProcess } from '../support/agent-process.js';
import { eventually } from '../support/eventually.js';
import { freePort, NexusProcess, temporaryHome } from '../support/nexus-process.js';

/** Kills per scenario here; NEXUS_TEST_KILLS=300 runs the long version. */
const KILLS = Number(process.env.NEXUS_TEST_KILLS ?? 20);
/** The server has to answer again within this time, also when its database has to recover. */
const READY_LIMIT_MS = 15_000;
const FINISHED = new Set(['completed', 'failed', 'cancelled']);

interface CommandView {
  status: string;
  substatus?: string;
  result: { success: boolean; error?: { code: string } } | null;
}

const home = temporaryHome();
const effects = path.join(home.path, 'effects');
const agentHome = path.join(home.path, 'agent');
let port: number;
let nexus: NexusProcess;
let agent: AgentProcess;
let key: string;

/** One request; undefined when the server is away, overloaded or failed half way. */
async function request<T>(
  method: string,
  target: string,
  body?: object,
): Promise<{ status: number; body: T } | undefined> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}${target}`, {
      method,
      headers: { authorization: `Bearer ${key}`, ...(body ? { 'content-type': 'application/json' } : {}) },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(10_000),
    });
    const parsed = (await response.json()) as T;
    if (response.status >= 500) return undefined;
    return { status: response.status, body: parsed };
  } catch {
    return undefined;
  }
}

/** Writes events and commands without a pause and remembers what was acknowledged; never gives up on one it has begun. */
class Load {
  readonly events: string[] = [];
  readonly commands = new Map<string, string>();
  private stopped = false;
  private readonly writers: Promise<void>[];

  constructor(private readonly source: string) {
    this.writers = [
      this.writeEvents(),
      this.writeEvents(),
      this.writeEvents(),
      this.writeCommands(),
      this.writeCommands(),
    ];
  }

  private async until<T>(attempt: () => Promise<T | undefined>): Promise<T> {
    for (;;) {
      const value = await attempt();
      if (value !== undefined) return value;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  private async writeEvents(): Promise<void> {
    while (!this.stopped) {
      const event = {
        event_id: randomUUID(),
        event_type: 'kill.test',
        source: this.source,
        timestamp: new Date().toISOString(),
        data: { metric_name: 'writes', value: this.events.length },
      };
      const answer = await this.until(() => request<{ event_id: string }>('POST', '/api/v1/telemetry/events', event));
      expect([200, 201]).toContain(answer.status);
      this.events.push(answer.body.event_id);
    }
  }

  private async writeCommands(): Promise<void> {
    while (!this.stopped) {
      const effect = randomUUID();
      const command = {
        command_type: 'effect.append',
        target: 'worker-01',
        parameters: { id: effect },
        // Longer than the kills take on a slow machine: nothing may end here for want of time.
        timeout_seconds: 1800,
        idempotency_key: effect,
      };
      const answer = await this.until(() => request<{ command_id: string }>('POST', '/api/v1/commands', command));
      expect([200, 201]).toContain(answer.status);
      this.commands.set(answer.body.command_id, effect);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await Promise.all(this.writers);
  }
}

async function storedEvents(source: string): Promise<string[]> {
  const ids: string[] = [];
  let cursor: string | null = null;
  do {
    const query: string = `source=${source}&limit=1000${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`;
    const answer = await request<{ events: { event_id: string }[]; pagination: { next_cursor: string | null } }>(
      'GET',
      `/api/v1/telemetry/events?${query}`,
    );
    if (!answer) throw new Error('the events could not be read');
    ids.push(...answer.body.events.map((e) => e.event_id));
    cursor = answer.body.pagination.next_cursor;
  } while (cursor);
  return ids;
}

function timesRun(effect: string): number {
  return existsSync(effects)
    ? readFileSync(effects, 'utf8')
        .split('\n')
        .filter((line) => line === effect).length
    : 0;
}

/** What must hold after any kill: nothing acknowledged is lost or doubled, every command ended truthfully and ran at most once. */
async function settle(load: Load, source: string): Promise<void> {
  await load.stop();
  const stored = await storedEvents(source);
  const known = new Set(stored);
  expect(stored.length).toBe(known.size);
  expect(load.events.filter((id) => !known.has(id))).toEqual([]);

  for (const [commandId, effect] of load.commands) {
    const command = await eventually(async () => {
      const answer = await request<CommandView>('GET', `/api/v1/commands/${commandId}`);
      return answer && FINISHED.has(answer.body.status) ? answer.body : undefined;
    }, 60_000);
    const runs = timesRun(effect);
    expect(runs, `runs of ${commandId}`).toBeLessThanOrEqual(1);
    if (command.status === 'completed') expect(runs, `runs of the completed ${commandId}`).toBe(1);
    else expect(command.result?.error?.code, `why ${commandId} ${command.status}`).toBe('UNKNOWN_OUTCOME');
  }
  expect(load.commands.size).toBeGreaterThan(0);
  expect(load.events.length).toBeGreaterThan(0);
}

async function ready(): Promise<void> {
  await eventually(async () => (await request('GET', '/readyz')) !== undefined, READY_LIMIT_MS);
}

/** A little later, at no particular point of what is going on; the pauses differ from kill to kill but not from run to run. */
async function aMoment(n: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 50 + ((n * 137) % 450)));
}

/** Process id of the database's postmaster; undefined while there is none. */
function databasePid(): number | undefined {
  const pointer = path.join(home.path, 'pg-location');
  const folder = existsSync(pointer) ? readFileSync(pointer, 'utf8').trim() : path.join(home.path, 'pg');
  const file = path.join(folder, 'postmaster.pid');
  return existsSync(file) ? Number(readFileSync(file, 'utf8').split('\n')[0]) : undefined;
}

beforeAll(async () => {
  mkdirSync(agentHome);
  port = await freePort();
  nexus = await NexusProcess.start({ home: home.path, port, env: { NEXUS_LOCAL_AGENT: 'false' } });
  key = nexus.apiKey as string;
  const script = path.join(home.path, 'append.sh');
  writeFileSync(script, 'echo "$2" >> "$1"\n');
  const config = path.join(home.path, 'agent.json');
  writeFileSync(
    config,
    JSON.stringify({
      commands: {
        'effect.append': {
          executable: '/bin/sh',
          args: [script, effects, '{id}'],
          parameters: { id: { type: 'string', required: true } },
        },
      },
    }),
  );
  const token = await request<{ token: string }>('POST', '/api/v1/ai/agents/join-tokens', {});
  const start = (join?: string): AgentProcess =>
    AgentProcess.start({ url: `http://127.0.0.1:${port}`, home: agentHome, name: 'worker-01', join, config });
  agent = start(token?.body.token);
  restartAgent = () => {
    agent = start();
  };
  await eventually(async () => {
    const list = await request<{ agents: { status: string; name?: string }[] }>(
      'GET',
      '/api/v1/ai/agents?status=active',
    );
    return (list?.body.agents.length ?? 0) > 0;
  }, 30_000);
}, 120_000);

let restartAgent: () => void;

afterAll(async () => {
  await agent?.end('SIGTERM');
  await nexus?.stop();
  home.remove();
});

describe(`kill -9, ${KILLS} times, under ingest and commands`, () => {
  it(
    'of the server loses, doubles and repeats nothing',
    async () => {
      const load = new Load('kill-server');
      for (let n = 0; n < KILLS; n++) {
        await aMoment(n);
        await nexus.kill();
        nexus = await NexusProcess.start({ home: home.path, port, env: { NEXUS_LOCAL_AGENT: 'false' } });
        await ready();
      }
      await settle(load, 'kill-server');
    },
    KILLS * 20_000 + 120_000,
  );

  it(
    'of the database loses, doubles and repeats nothing',
    async () => {
      const load = new Load('kill-database');
      for (let n = 0; n < KILLS; n++) {
        await aMoment(n);
        const killed = await eventually(databasePid);
        process.kill(killed, 'SIGKILL');
        // Its children go on serving for a moment: what counts is the next one.
        await eventually(() => ![undefined, killed].includes(databasePid()), READY_LIMIT_MS);
        await ready();
        await eventually(async () => request('GET', '/api/v1/telemetry/events?limit=1'), READY_LIMIT_MS);
      }
      await settle(load, 'kill-database');
    },
    KILLS * 20_000 + 120_000,
  );

  it(
    'of the agent loses, doubles and repeats nothing',
    async () => {
      const load = new Load('kill-agent');
      for (let n = 0; n < KILLS; n++) {
        await aMoment(n);
        await agent.end('SIGKILL');
        restartAgent();
        await aMoment(n + 5);
      }
      await settle(load, 'kill-agent');
    },
    KILLS * 20_000 + 120_000,
  );
});
