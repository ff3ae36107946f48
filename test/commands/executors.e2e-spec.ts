import { createHash, createHmac } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import type { CommandEnvelope } from '@nexus/agent/protocol';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { BuiltinCommands } from '../../src/commands/index.js';
import { CommandRuns } from '../../src/commands/command-runs.js';
import { EndpointClient } from '../../src/commands/endpoint-client.js';
import { EgressClient } from '../../src/platform/egress/index.js';
import { JobQueue } from '../../src/platform/jobs/index.js';
import { Retention } from '../../src/platform/retention/index.js';
import { CommandSweep } from '../../src/commands/command-sweep.js';
import { actor } from '../support/actors.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { eventually } from '../support/eventually.js';
import { bare, type RegisteredAgent } from '../support/fake-agent.js';
import { createTestDatabase } from '../support/test-database.js';
import { Harness, statuses } from './harness.js';

interface Received {
  headers: http.IncomingHttpHeaders;
  body: string;
}
type Answer = (request: Received, response: http.ServerResponse) => void;

/** Somebody else's web server. */
class Sink {
  readonly received: Received[] = [];
  answer: Answer = (_request, response) => response.end('{}');

  private constructor(
    private readonly server: http.Server,
    readonly port: number,
  ) {
    server.on('request', (request: http.IncomingMessage, response: http.ServerResponse) => {
      void this.take(request, response);
    });
  }

  static async open(port = 0): Promise<Sink> {
    const server = http.createServer().listen(port, '127.0.0.1');
    await once(server, 'listening');
    const sink = new Sink(server, (server.address() as AddressInfo).port);
    sinks.push(sink);
    return sink;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}/hook`;
  }

  async close(): Promise<void> {
    if (!this.server.listening) return;
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }

  private async take(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const received = { headers: request.headers, body: Buffer.concat(parts).toString() };
    this.received.push(received);
    this.answer(received, response);
  }
}

const sinks: Sink[] = [];
let nexus: Harness;

beforeAll(async () => {
  nexus = await Harness.start({ NEXUS_EGRESS_ALLOW: '127.0.0.0/8', NEXUS_COMMAND_RETENTION_DAYS: '4' });
});
afterAll(() => nexus.stop());
afterEach(async () => {
  for (const sink of sinks.splice(0)) await sink.close();
  await nexus.disconnect();
});

const serviceAt = (sink: Sink): Promise<RegisteredAgent> =>
  nexus.register({ agent_type: 'service', endpoint: sink.url });

describe('a command for the server itself', () => {
  it('runs in a worker and gives its figures', async () => {
    const id = await nexus.send('nexus', { command_type: 'system.info' });
    const done = await nexus.until(id, 'completed');
    expect(done.result?.data).toMatchObject({ node_version: process.version });
    expect(statuses(done)).toEqual(['queued', 'running', 'completed']);
    const health = await nexus.until(await nexus.send('nexus', { command_type: 'health_check' }), 'completed');
    expect(health.result?.data).toHaveProperty('components');
  });

  it('waits for a free worker by its priority, and waiting makes more urgent', async () => {
    const order: unknown[] = [];
    const releases: (() => void)[] = [];
    nexus.app.get(BuiltinCommands).register('execute_task', async ({ name }) => {
      order.push(name);
      await new Promise<void>((resolve) => releases.push(resolve));
      return { message: 'done' };
    });
    await nexus.app.db.query(`UPDATE command_types SET executor = 'any' WHERE type = 'execute_task'`);
    const send = (name: string, priority: string) =>
      nexus.send('nexus', { command_type: 'execute_task', priority, parameters: { name } });
    const blockers = await Promise.all(Array.from({ length: 16 }, () => send('blocker', 'normal')));
    await eventually(() => order.length === 16, 20_000);
    const waiting = [await send('low', 'low'), await send('old', 'low'), await send('critical', 'critical')];
    await nexus.app.db.query(`UPDATE commands SET created_at = created_at - interval '20 minutes' WHERE id = $1`, [
      bare(waiting[1]),
    ]);
    const jobs = nexus.app.get(JobQueue).queue('command-builtins');
    const queued = async () =>
      (await jobs.getJobs(['prioritized', 'waiting'])).map(
        ({ data }) => (data as { payload: { commandId: string } }).payload.commandId,
      );
    await eventually(async () => {
      // The next look at what is due, which is every few seconds.
      await nexus.app.db.query(`UPDATE commands SET due_at = now() WHERE id = $1 AND status = 'queued'`, [
        bare(waiting[1]),
      ]);
      const ids = await queued();
      return ids.filter((id) => id === bare(waiting[1])).length > 1 && waiting.every((id) => ids.includes(bare(id)));
    }, 20_000);
    // One slot after the other gets free: which of several begins first at once says nothing.
    for (let started = 17; started <= 19; started++) {
      releases.shift()?.();
      await eventually(() => order.length === started);
    }
    for (const release of releases) release();
    for (const id of [...blockers, ...waiting]) await nexus.until(id, 'completed', 20_000);
    expect(order.slice(16)).toEqual(['old', 'critical', 'low']);
  }, 60_000);

  it('has one effect however often its job runs', async () => {
    let runs = 0;
    nexus.app.get(BuiltinCommands).register('system.processes', async () => {
      runs++;
      await eventually(() => runs > 0);
      return { message: 'counted' };
    });
    await nexus.app.db.query(`UPDATE command_types SET executor = 'any' WHERE type = 'system.processes'`);
    const id = await nexus.send('nexus', { command_type: 'system.processes' });
    const worker = nexus.app.get(CommandRuns);
    const job = { jobId: 'x', attempt: 1, signal: new AbortController().signal };
    await Promise.all(Array.from({ length: 5 }, () => worker.run({ commandId: bare(id), attempt: 0 }, job)));
    expect(await nexus.until(id, 'completed')).toMatchObject({ attempts: 1 });
    expect(runs).toBe(1);
  });

  it('takes over the run of a worker that died', async () => {
    const id = await nexus.send('nexus', { command_type: 'system.ping' });
    await nexus.until(id, 'completed');
    await nexus.app.db.query(
      `UPDATE commands SET status = 'running', completed_at = NULL, result = NULL, due_at = now() - interval '1 s'
       WHERE id = $1`,
      [bare(id)],
    );
    await nexus.app.get(CommandSweep).sweep();
    expect(await nexus.until(id, 'completed')).toMatchObject({ attempts: 2 });
  });

  it('that is under way when its worker stops has not failed: another worker takes it over', async () => {
    const database = await createTestDatabase();
    const start = () => startTestApp({ DATABASE_URL: database.url });
    const first = await start();
    const { key } = await actor(first);
    await first.db.query(`UPDATE command_types SET executor = 'any' WHERE type = 'system.processes'`);
    first.get(BuiltinCommands).register('system.processes', () => new Promise(() => undefined));
    const body = { command_type: 'system.processes', target: 'nexus' };
    const { command_id: id } = (await first.call<{ command_id: string }>('POST', '/api/v1/commands', { key, body }))
      .body;
    const shown = async (app: TestApp) =>
      (await app.call<{ substatus: string; attempts: number }>('GET', `/api/v1/commands/${id}`, { key })).body;
    await eventually(async () => (await shown(first)).substatus === 'running');
    await first.stop();
    const second = await start();
    try {
      second.get(BuiltinCommands).register('system.processes', () => Promise.resolve({ message: 'done' }));
      expect((await shown(second)).substatus).toBe('running');
      // Its lease runs out.
      await second.db.query(`UPDATE commands SET due_at = now() - interval '1 s' WHERE id = $1`, [bare(id)]);
      await eventually(async () => (await shown(second)).substatus === 'completed');
      expect((await shown(second)).attempts).toBe(2);
    } finally {
      await second.stop();
      await database.drop();
    }
  }, 60_000);

  it('is refused for what the server cannot do', async () => {
    expect((await nexus.post({ command_type: 'deploy.app', target: 'nexus' })).status).toBe(422);
  });
});

describe('a command for an HTTP endpoint', () => {
  it('is posted once, signed, and the answer is the result', async () => {
    const sink = await Sink.open();
    sink.answer = (_request, response) =>
      response.end(JSON.stringify({ success: true, message: 'deployed', output: 'line\n', data: { version: 2 } }));
    const agent = await serviceAt(sink);
    const id = await nexus.send(agent.name, { command_type: 'deploy.app', parameters: { v: 2 } });
    const done = await nexus.until(id, 'completed');
    expect(done.result).toMatchObject({ message: 'deployed', output: 'line\n', data: { version: 2 } });
    expect(sink.received).toHaveLength(1);
    const [{ headers, body }] = sink.received;
    const key = createHash('sha256').update(agent.key).digest();
    expect(headers['x-nexus-signature']).toBe(`sha256=${createHmac('sha256', key).update(body).digest('hex')}`);
    expect(headers['x-nexus-command']).toBe(id);
    expect(JSON.parse(body) as CommandEnvelope).toMatchObject({ command_type: 'deploy.app', parameters: { v: 2 } });
  });

  it('fails with what the endpoint says', async () => {
    const sink = await Sink.open();
    sink.answer = (_request, response) => response.end(JSON.stringify({ success: false, message: 'disk full' }));
    const agent = await serviceAt(sink);
    const said = await nexus.until(await nexus.send(agent.name), 'failed');
    expect(said.result).toMatchObject({ message: 'disk full', error: { code: 'COMMAND_FAILED' } });
    sink.answer = (_request, response) => response.writeHead(503).end('busy');
    const refused = await nexus.until(await nexus.send(agent.name), 'failed');
    expect(refused.result?.error?.code).toBe('ENDPOINT_REFUSED');
    expect(sink.received).toHaveLength(2);
  });

  it.each([
    ['no JSON', 'done', 'is not valid JSON'],
    ['JSON nested without end', `{"data":${'['.repeat(30_000)}${']'.repeat(30_000)}}`, 'nested'],
    ['more than is read', JSON.stringify({ data: 'x'.repeat(100_000) }), 'is longer than 65536 bytes'],
  ])('fails, and says why, when the answer is %s', async (_what, answer, issue) => {
    const sink = await Sink.open();
    sink.answer = (_request, response) => response.end(answer);
    const agent = await serviceAt(sink);
    const done = await nexus.until(await nexus.send(agent.id), 'failed');
    expect(done.result?.error).toMatchObject({ code: 'ENDPOINT_ANSWER_INVALID' });
    expect(done.result?.message).toContain(issue);
    expect(sink.received).toHaveLength(1);
  });

  it('is tried again only while it surely was not sent', async () => {
    const gone = await Sink.open();
    const { port } = gone;
    await gone.close();
    const agent = await serviceAt(gone);
    const id = await nexus.send(agent.name);
    await eventually(async () => statuses(await nexus.get(id)).includes('running'));
    await eventually(async () => (await nexus.get(id)).substatus === 'queued');
    const back = await Sink.open(port);
    expect((await nexus.until(id, 'completed', 20_000)).attempts).toBeGreaterThan(1);
    expect(back.received).toHaveLength(1);
    expect(await nexus.eventsOf(id)).toEqual(['command.queued', 'command.started', 'command.completed']);
  });

  it('has an unknown outcome when the answer never comes', async () => {
    const sink = await Sink.open();
    sink.answer = (_request, response) => response.destroy();
    const agent = await serviceAt(sink);
    const done = await nexus.until(await nexus.send(agent.name, { command_type: 'deploy.app' }), 'failed');
    expect(done.result?.error?.code).toBe('UNKNOWN_OUTCOME');
    expect(sink.received).toHaveLength(1);
  });

  it('that has come to point inside the network is refused, and nothing is connected to', async () => {
    const opened: string[] = [];
    let address = '93.184.216.34';
    const stubs = {
      resolve: () => Promise.resolve([{ address, family: address.includes(':') ? 6 : 4 }]),
      open: (_target: unknown, to: string) => {
        opened.push(to);
        return Promise.reject(Object.assign(new Error('caged'), { code: 'ECONNREFUSED' }));
      },
    };
    const egress = nexus.app.get(EgressClient) as unknown as typeof stubs;
    const { resolve, open } = egress;
    try {
      Object.assign(egress, stubs);
      const agent = await nexus.register({ agent_type: 'service', endpoint: 'https://rebound.example/run' });
      for (address of ['10.0.0.1', '169.254.169.254', '::1', '::ffff:10.0.0.1']) {
        const id = await nexus.send(agent.id);
        const done = await nexus.until(id, 'failed');
        expect(done).toMatchObject({ status: 'failed', attempts: 1, result: { error: { code: 'EGRESS_BLOCKED' } } });
        expect(JSON.stringify(done)).not.toContain(address);
        expect(await nexus.eventsOf(id)).toContain('command.failed');
      }
      expect(opened).toEqual([]);
    } finally {
      Object.assign(egress, { resolve, open });
    }
  });

  it('ends when it takes too long or is cancelled', async () => {
    const sink = await Sink.open();
    sink.answer = () => undefined;
    const agent = await serviceAt(sink);
    const slow = await nexus.send(agent.name, { timeout_seconds: 1 });
    const unwanted = await nexus.send(agent.name);
    await eventually(() => sink.received.length === 2);
    expect((await nexus.cancel(unwanted)).status).toBe(200);
    expect((await nexus.until(slow, 'timed_out')).result?.error?.code).toBe('TIMEOUT');
    expect((await nexus.get(unwanted)).status).toBe('cancelled');
  });

  it('whose worker died is not run again unless that does no harm', async () => {
    const sink = await Sink.open();
    const agent = await serviceAt(sink);
    for (const [type, substatus] of [
      ['deploy.app', 'failed'],
      ['sync_state', 'completed'],
    ]) {
      const id = await nexus.send(agent.name, { command_type: type });
      await nexus.until(id, 'completed');
      await nexus.app.db.query(
        `UPDATE commands SET status = 'running', completed_at = NULL, result = NULL, due_at = now() - interval '1 s'
         WHERE id = $1`,
        [bare(id)],
      );
      await nexus.app.get(CommandSweep).sweep();
      await nexus.until(id, substatus);
    }
    expect(sink.received).toHaveLength(3);
  });
});

describe('endpoints that take their time', () => {
  it('hold up neither built-ins nor callbacks', async () => {
    const sink = await Sink.open();
    const agent = await serviceAt(sink);
    const runs = vi.spyOn(nexus.app.get(EndpointClient), 'run');
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    runs.mockImplementation(async () => {
      await held;
      return { kind: 'completed', message: 'late', data: null, output: '' };
    });
    try {
      const slow = await Promise.all(
        Array.from({ length: 16 }, () => nexus.send(agent.name, { command_type: 'deploy.app' })),
      );
      await eventually(() => runs.mock.calls.length === 16);
      const quick = await nexus.send('nexus', { callback_url: sink.url });
      await nexus.until(quick, 'completed');
      await eventually(() => sink.received.some(({ headers }) => headers['webhook-id'] === quick));
      release();
      for (const id of slow) await nexus.until(id, 'completed');
    } finally {
      release();
      runs.mockRestore();
    }
  });
});

describe('the callback', () => {
  async function secret(): Promise<string> {
    const { body } = await nexus.app.call<{ secret: string }>('GET', '/api/v1/commands/callback-secret', {
      key: nexus.admin,
    });
    return body.secret;
  }

  it('brings the result, signed both ways', async () => {
    const sink = await Sink.open();
    const id = await nexus.send('nexus', { callback_url: sink.url });
    const [{ headers, body }] = await eventually(() => sink.received.length > 0 && sink.received);
    const key = await secret();
    expect(key).toMatch(/^whsec_/);
    expect(headers['x-nexus-signature']).toBe(`sha256=${createHmac('sha256', key).update(body).digest('hex')}`);
    const text = `${headers['webhook-id'] as string}.${headers['webhook-timestamp'] as string}.${body}`;
    const bytes = Buffer.from(key.slice('whsec_'.length), 'base64');
    expect(headers['webhook-signature']).toBe(`v1,${createHmac('sha256', bytes).update(text).digest('base64')}`);
    expect(headers['webhook-id']).toBe(id);
    expect(headers['x-nexus-event']).toBe('command.completed');
    expect(headers['x-nexus-delivery']).toMatch(/^dlv_[0-9a-f-]{36}\.1$/);
    expect(JSON.parse(body)).toMatchObject({
      event: 'command.completed',
      delivery_id: String(headers['x-nexus-delivery']).replace(/\.1$/, ''),
      command_id: id,
      status: 'completed',
      result: { success: true },
    });
    const noted = await eventually(async () => {
      const command = await nexus.get(id);
      return statuses(command).includes('callback_sent') && command;
    });
    expect(noted.timeline.at(-1)?.detail).toContain('200');
  });

  it('is tried again with the same bytes and id, no sooner than asked', async () => {
    const sink = await Sink.open();
    sink.answer = (_request, response) => {
      if (sink.received.length === 1) response.writeHead(503, { 'retry-after': '3' }).end();
      else response.end();
    };
    const start = Date.now();
    const id = await nexus.send('nexus', { callback_url: sink.url });
    await eventually(() => sink.received.length === 2, 20_000);
    expect(Date.now() - start).toBeGreaterThanOrEqual(3000);
    const [first, second] = sink.received;
    expect(second.body).toBe(first.body);
    expect(second.headers['webhook-id']).toBe(first.headers['webhook-id']);
    expect(second.headers['x-nexus-delivery']).toBe(String(first.headers['x-nexus-delivery']).replace(/\.1$/, '.2'));
    const noted = await eventually(async () => {
      const command = await nexus.get(id);
      return statuses(command).includes('callback_sent') && command;
    });
    expect(statuses(noted)).toContain('callback_failed');
  });

  it('is given up after five tries', async () => {
    const sink = await Sink.open();
    sink.answer = (_request, response) => response.writeHead(500).end();
    const id = await nexus.send('nexus', { callback_url: sink.url });
    // Time is made to pass: every next try is due at once.
    const given = await eventually(async () => {
      await nexus.app.db.query(
        `UPDATE commands SET callback_due_at = now() - interval '1 s'
         WHERE id = $1 AND callback_due_at IS NOT NULL
           AND jsonb_path_exists(timeline, '$[*] ? (@.status starts with "callback")')
           AND callback_attempts = jsonb_array_length(jsonb_path_query_array(timeline, '$[*] ? (@.status starts with "callback")'))`,
        [bare(id)],
      );
      const command = await nexus.get(id);
      return statuses(command).includes('callback_given_up') && command;
    }, 20_000);
    expect(sink.received).toHaveLength(5);
    expect(statuses(given).filter((status) => status === 'callback_failed')).toHaveLength(4);
  }, 30_000);
});

describe('retention', () => {
  it('deletes what finished long ago, with its children and output, and nothing else', async () => {
    const fake = await nexus.agent({}, (it, { command_id }) => it.execute(command_id, 'old'));
    const [old, fresh] = [await nexus.send(fake.agent.id), await nexus.send(fake.agent.id)];
    await nexus.until(old, 'completed');
    await nexus.until(fresh, 'completed');
    const finished = (id: string, days: number): Promise<unknown> =>
      nexus.app.db.query(`UPDATE commands SET completed_at = now() - make_interval(days => $2) WHERE id = $1`, [
        bare(id),
        days,
      ]);
    await finished(old, 5);
    await finished(fresh, 3);
    await nexus.app.get(Retention).run();
    const left = await nexus.app.db.query<{ command_id: string }>(
      `SELECT command_id FROM command_output WHERE command_id = ANY ($1)`,
      [[bare(old), bare(fresh)]],
    );
    expect(left.map((row) => row.command_id)).toEqual([bare(fresh)]);
    expect((await nexus.app.call('GET', `/api/v1/commands/${old}`, { key: nexus.admin })).status).toBe(404);
  });
});
