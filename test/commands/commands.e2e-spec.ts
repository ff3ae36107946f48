import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { AgentLinks, AgentSigningKeys } from '../../src/agents/index.js';
import { actor } from '../support/actors.js';
import { eventually } from '../support/eventually.js';
import { bare } from '../support/fake-agent.js';
import { type Command, Harness, statuses } from './harness.js';

let nexus: Harness;

beforeAll(async () => {
  nexus = await Harness.start();
});
afterAll(() => nexus.stop());
afterEach(() => nexus.disconnect());

describe('a command to a connected agent', () => {
  it('runs and comes back with its result, output, timeline, events and audit entry', async () => {
    const { agent } = await nexus.agent({}, (fake, { command_id }) => fake.execute(command_id, 'héllo\n'));
    const { status, body } = await nexus.post({
      command_type: 'system.info',
      target: agent.name,
      parameters: { a: 1 },
    });
    expect(status).toBe(201);
    expect(body).toMatchObject({ status: 'queued', command_type: 'system.info', agent_id: agent.id });
    expect(Date.parse(body.estimated_completion)).toBeGreaterThan(Date.parse(body.created_at));
    const done = await nexus.until(body.command_id, 'completed');
    expect(done).toMatchObject({
      status: 'completed',
      attempts: 1,
      result: { success: true, message: 'done', output: 'héllo\n', duration_ms: 5, exit_code: 0, error: null },
    });
    expect(statuses(done)).toEqual(['queued', 'delivered', 'running', 'completed']);
    expect(await nexus.eventsOf(body.command_id)).toEqual(['command.queued', 'command.started', 'command.completed']);
    const entries = await nexus.app.db.query<{ action: string }>(
      `SELECT action FROM audit_entries WHERE resource_id = $1`,
      [body.command_id],
    );
    expect(entries.map((entry) => entry.action)).toContain('POST /api/v1/commands');
  });

  it('says in its events what priority it has and which agent it is for, whatever the target names', async () => {
    const { agent } = await nexus.agent({}, (fake, { command_id }) => fake.execute(command_id, ''));
    for (const target of [agent.id, agent.name]) {
      const id = await nexus.send(target, { priority: 'high' });
      await nexus.until(id, 'completed');
      const events = await nexus.app.db.query<{ data: object }>(`SELECT data FROM events WHERE subject = $1`, [id]);
      expect(events).toHaveLength(3);
      for (const { data } of events) expect(data).toMatchObject({ target, source: agent.name, priority: 'high' });
    }
  });

  it('is shown delivered only once the agent has acknowledged it', async () => {
    const fake = await nexus.agent();
    const id = await nexus.send(fake.agent.id);
    await fake.command(id);
    expect(await nexus.get(id)).toMatchObject({ status: 'queued', substatus: 'queued' });
    fake.ack(id);
    expect(await nexus.until(id, 'delivered')).toMatchObject({ status: 'queued', started_at: null });
    fake.start(id);
    expect((await nexus.until(id, 'running')).status).toBe('running');
    fake.result(id, { status: 'failed', exit_code: 3, error: { code: 'EXIT_CODE', message: 'exit 3' } });
    expect(await nexus.until(id, 'failed')).toMatchObject({
      status: 'failed',
      result: { success: false, exit_code: 3, error: { code: 'EXIT_CODE' } },
    });
    await fake.received('result_ack', (frame) => frame.command_id === bare(id));
  });

  it('fails with the reason when the agent refuses it', async () => {
    const fake = await nexus.agent();
    const id = await nexus.send(fake.agent.id);
    await fake.command(id);
    fake.send({ type: 'command_refused', command_id: bare(id), code: 'INVALID_PARAMETERS', message: 'no such disk' });
    const refused = await nexus.until(id, 'failed');
    expect(refused.result?.error).toMatchObject({ code: 'INVALID_PARAMETERS' });
    expect(refused.result?.message).toContain('no such disk');
  });

  it('stores a result that holds characters no database takes', async () => {
    const fake = await nexus.agent();
    const id = await nexus.send(fake.agent.id);
    await fake.command(id);
    fake.result(id, { data: { list: ['a', 1, null, { deep: '\u00e9' }] }, message: 'tab\tdone' });
    expect((await nexus.until(id, 'completed')).result?.data).toEqual({ list: ['a', 1, null, { deep: '\u00e9' }] });
  });

  it('takes every report twice without a second effect', async () => {
    const fake = await nexus.agent();
    const id = await nexus.send(fake.agent.id);
    await fake.command(id);
    for (let round = 0; round < 3; round++) fake.execute(id, 'once');
    await nexus.until(id, 'completed');
    await eventually(() => fake.frames.filter((frame) => frame.type === 'result_ack').length >= 2);
    const done = await nexus.get(id);
    expect(statuses(done)).toEqual(['queued', 'delivered', 'running', 'completed']);
    expect(done).toMatchObject({ attempts: 1, result: { output: 'once' } });
    expect(await nexus.eventsOf(id)).toEqual(['command.queued', 'command.started', 'command.completed']);
  });

  it('believes only the agent it is for', async () => {
    const mine = await nexus.agent();
    const other = await nexus.agent();
    const id = await nexus.send(mine.agent.id);
    await mine.command(id);
    other.execute(id, 'forged');
    await other.received('error', (frame) => frame.code === 'UNKNOWN_COMMAND');
    expect(await nexus.get(id)).toMatchObject({ substatus: 'queued', result: null });
    mine.execute(id, 'real');
    expect((await nexus.until(id, 'completed')).result?.output).toBe('real');
  });
});

describe('an agent that is away', () => {
  it('gets what waited for it when it comes back', async () => {
    const agent = await nexus.register();
    const first = await nexus.connect(agent);
    await first.close();
    const id = await nexus.send(agent.name);
    expect(await nexus.get(id)).toMatchObject({ status: 'queued' });
    const fake = await nexus.connect(agent);
    fake.execute((await fake.command(id)).command_id);
    await nexus.until(id, 'completed');
  });

  it('gets it too when its signing key could not be read at first', async () => {
    const agent = await nexus.register();
    const wake = vi.spyOn(nexus.app.get(AgentLinks), 'wake');
    const id = await nexus.send(agent.name);
    // Woken at its commit and by its job: from here on nothing but the agent's own link reminds of it.
    await eventually(() => wake.mock.calls.filter((agents) => agents.includes(agent.uuid)).length === 2);
    wake.mockRestore();
    const keys = vi.spyOn(nexus.app.get(AgentSigningKeys), 'signer');
    keys.mockRejectedValueOnce(new Error('the database is away'));
    try {
      const fake = await nexus.connect(agent);
      await fake.command(id);
    } finally {
      keys.mockRestore();
    }
  });

  it('never gets what has expired', async () => {
    const agent = await nexus.register();
    const id = await nexus.send(agent.name, { timeout_seconds: 1 });
    const expired = await nexus.until(id, 'timed_out');
    expect(expired).toMatchObject({ status: 'failed', result: { success: false, error: { code: 'TIMEOUT' } } });
    expect(await nexus.eventsOf(id)).toEqual(['command.queued', 'command.timed_out']);
    const fake = await nexus.connect(agent);
    const later = await nexus.send(agent.name);
    await fake.command(later);
    expect(fake.commands.map((command) => command.command_id)).toEqual([bare(later)]);
  });

  it('is told where to go on with the output, and what is wanted no more', async () => {
    const agent = await nexus.register();
    const fake = await nexus.connect(agent);
    const [running, finished] = [await nexus.send(agent.id), await nexus.send(agent.id)];
    await fake.command(running);
    await fake.command(finished);
    fake.ack(running);
    fake.output(running, 0, '0123456789');
    fake.execute(finished);
    await nexus.until(finished, 'completed');
    await fake.received('output_ack', (frame) => frame.next_offset === 10);
    await fake.close();
    const unknown = '00000000-0000-4000-8000-000000000000';
    const back = await nexus.connect(agent, { unfinished: [bare(running), bare(finished), unknown] });
    expect((await back.received('welcome')).resume).toEqual([
      { command_id: bare(running), next_offset: 10 },
      { command_id: bare(finished), next_offset: -1 },
      { command_id: unknown, next_offset: -1 },
    ]);
    back.result(running, { output_bytes: 10 });
    expect((await nexus.until(running, 'completed')).result?.output).toBe('0123456789');
  });

  it('fails what an agent came back without any record of', async () => {
    const agent = await nexus.register();
    const fake = await nexus.connect(agent);
    const id = await nexus.send(agent.id);
    await fake.command(id);
    fake.ack(id);
    await nexus.until(id, 'delivered');
    await fake.close();
    await nexus.connect(agent, { unfinished: [] });
    expect((await nexus.until(id, 'failed')).result?.error?.code).toBe('UNKNOWN_OUTCOME');
  });
});

describe('an agent that is deregistered', () => {
  it('ends what waited for it and what it had, each with its reason', async () => {
    const fake = await nexus.agent();
    const [had, waited] = [await nexus.send(fake.agent.id), await nexus.send(fake.agent.id)];
    await fake.command(waited);
    fake.ack(had);
    fake.start(had);
    await nexus.until(had, 'running');
    const { status } = await nexus.app.call('DELETE', `/api/v1/ai/agents/${fake.agent.id}`, { key: nexus.admin });
    expect(status).toBe(200);
    expect((await nexus.until(had, 'failed')).result?.error?.code).toBe('UNKNOWN_OUTCOME');
    expect((await nexus.until(waited, 'failed')).result?.error?.code).toBe('AGENT_GONE');
    expect(await nexus.eventsOf(waited)).toEqual(['command.queued', 'command.failed']);
  });

  it('leaves the others of its command to be cancelled by whoever may command them', async () => {
    const labels = { env: 'development', pool: randomUUID().slice(0, 8) };
    const [gone] = [await nexus.register({ labels }), await nexus.register({ labels })];
    const developer = await actor(nexus.app, { role: 'developer' });
    const body = { command_type: 'system.ping', target: `label:pool=${labels.pool}` };
    const parent = await nexus.post(body, developer.key);
    expect(parent.body.children).toHaveLength(2);
    await nexus.app.call('DELETE', `/api/v1/ai/agents/${gone.id}`, { key: nexus.admin });
    const { status } = await nexus.app.call('DELETE', `/api/v1/commands/${parent.body.command_id}`, {
      key: developer.key,
    });
    expect(status).toBe(200);
  });
});

describe('the deadline', () => {
  it('ends a running command, stops it on the agent and only notes a late result', async () => {
    const fake = await nexus.agent();
    const id = await nexus.send(fake.agent.id, { timeout_seconds: 1 });
    expect((await fake.command(id)).timeout_seconds).toBe(1);
    fake.ack(id);
    fake.start(id);
    // The agent has some seconds of grace to report how it ended the command itself.
    const ended = await nexus.until(id, 'timed_out', 15_000);
    expect(ended.result?.error?.code).toBe('TIMEOUT');
    await fake.received('cancel', (frame) => frame.command_id === bare(id));
    fake.result(id);
    await fake.received('result_ack', (frame) => frame.command_id === bare(id));
    const late = await nexus.get(id);
    expect(late).toMatchObject({ substatus: 'timed_out', result: { success: false } });
    expect(statuses(late)).toEqual(['queued', 'delivered', 'running', 'timed_out', 'late_completed']);
  });
});

describe('cancelling', () => {
  it('ends a queued command at once, and says the same twice', async () => {
    const agent = await nexus.register();
    const id = await nexus.send(agent.name);
    const first = await nexus.cancel(id, '?reason=Not%20needed');
    expect(first.status).toBe(200);
    expect(first.body).toMatchObject({ command_id: id, status: 'cancelled' });
    expect((await nexus.cancel(id)).body).toEqual(first.body);
    const cancelled = await nexus.get(id);
    expect(cancelled).toMatchObject({ status: 'cancelled', result: { error: { code: 'CANCELLED' } } });
    expect(cancelled.timeline.at(-1)?.detail).toContain('Not needed');
    expect(await nexus.eventsOf(id)).toEqual(['command.queued', 'command.cancelled']);
  });

  it('reaches a running command, whose result no longer counts', async () => {
    const fake = await nexus.agent();
    const id = await nexus.send(fake.agent.id);
    await fake.command(id);
    fake.ack(id);
    fake.start(id);
    await nexus.until(id, 'running');
    const answer = await nexus.app.call('DELETE', `/api/v1/commands/${id}`, {
      key: nexus.admin,
      body: { reason: 'wrong host' },
    });
    expect(answer.status).toBe(200);
    const frame = await fake.received('cancel', (cancel) => cancel.command_id === bare(id));
    expect(frame.reason).toBe('wrong host');
    fake.output(id, 0, 'partial');
    fake.result(id, { status: 'cancelled', output_bytes: 7 });
    await fake.received('result_ack', (ack) => ack.command_id === bare(id));
    const cancelled = await nexus.get(id);
    expect(cancelled).toMatchObject({ status: 'cancelled', result: { output: 'partial' } });
    expect(statuses(cancelled).at(-1)).toBe('late_cancelled');
  });

  it('reaches it a second time, should the first word be lost', async () => {
    const fake = await nexus.agent();
    const id = await nexus.send(fake.agent.id);
    await fake.command(id);
    fake.ack(id);
    fake.start(id);
    await nexus.until(id, 'running');
    const relay = vi.spyOn(nexus.app.get(AgentLinks), 'relay').mockImplementationOnce(() => undefined);
    try {
      expect((await nexus.cancel(id, '?reason=enough')).status).toBe(200);
      expect(await fake.received('cancel', (frame) => frame.command_id === bare(id))).toMatchObject({
        reason: 'enough',
      });
    } finally {
      relay.mockRestore();
    }
  });

  it('stops an agent that acknowledges or comes back too late to know', async () => {
    const agent = await nexus.register();
    const fake = await nexus.connect(agent);
    const id = await nexus.send(agent.id);
    await fake.command(id);
    fake.ack(id);
    await nexus.until(id, 'delivered');
    await fake.close();
    await nexus.cancel(id);
    const back = await nexus.connect(agent, { unfinished: [bare(id)] });
    await back.received('cancel', (frame) => frame.command_id === bare(id));
  });

  it('is refused for a finished and an unknown command', async () => {
    const fake = await nexus.agent({}, (it, { command_id }) => it.execute(command_id));
    const id = await nexus.send(fake.agent.id);
    await nexus.until(id, 'completed');
    expect((await nexus.cancel(id)).status).toBe(409);
    expect((await nexus.cancel('cmd_00000000-0000-4000-8000-000000000000')).status).toBe(404);
    expect((await nexus.cancel('nonsense')).status).toBe(404);
  });
});

describe('the order of delivery', () => {
  it('is by priority, and waiting makes more urgent', async () => {
    const agent = await nexus.register();
    const low = await nexus.send(agent.name, { priority: 'low' });
    const normal = await nexus.send(agent.name, { priority: 'medium' });
    const aged = await nexus.send(agent.name, { priority: 'low', timeout_seconds: 3600 });
    const critical = await nexus.send(agent.name, { priority: 'critical' });
    const high = await nexus.send(agent.name, { priority: 'high' });
    await nexus.app.db.query(`UPDATE commands SET created_at = now() - interval '5 minutes' WHERE id = $1`, [
      bare(aged),
    ]);
    const fake = await nexus.connect(agent);
    await eventually(() => fake.commands.length === 5);
    const order = fake.commands.map((command) => command.command_id);
    expect(order).toEqual([critical, aged, high, normal, low].map(bare));
  });

  it('keeps a bounded window of unacknowledged commands on the way', async () => {
    const agent = await nexus.register();
    const ids = [];
    for (let i = 0; i < 40; i++) ids.push(await nexus.send(agent.name));
    const fake = await nexus.connect(agent);
    await eventually(() => fake.commands.length === 32);
    const later = await nexus.send(agent.name, { priority: 'critical' });
    expect(fake.commands).toHaveLength(32);
    for (const { command_id } of [...fake.commands]) fake.execute(command_id);
    await eventually(() => fake.commands.length === 41);
    // What came later but is more urgent overtakes what still waited.
    expect(fake.commands[32].command_id).toBe(bare(later));
    for (const { command_id } of fake.commands.slice(32)) fake.execute(command_id);
    for (const id of [...ids, later]) await nexus.until(id, 'completed');
  });

  it('sends a command again later that the agent had no room for', async () => {
    const fake = await nexus.agent();
    const id = await nexus.send(fake.agent.id);
    await fake.command(id);
    fake.send({ type: 'command_refused', command_id: bare(id), code: 'BUSY', message: 'full' });
    const other = await nexus.send(fake.agent.id);
    fake.execute((await fake.command(other)).command_id);
    await nexus.until(other, 'completed');
    expect(await nexus.get(id)).toMatchObject({ status: 'queued' });
    await eventually(() => fake.commands.filter((command) => command.command_id === bare(id)).length === 2, 25_000);
  }, 40_000);
});

describe('a command for several agents', () => {
  it('becomes a parent with a child for each, and sums up how they ended', async () => {
    const labels = { pool: 'fan-1' };
    const good = await nexus.agent({ labels }, (fake, { command_id }) => fake.execute(command_id, 'ok'));
    const bad = await nexus.agent({ labels }, (fake, { command_id }) =>
      fake.result(command_id, { status: 'failed', exit_code: 1 }),
    );
    const { status, body } = await nexus.post({ command_type: 'system.ping', target: 'label:pool=fan-1' });
    expect(status).toBe(201);
    expect(body.children).toHaveLength(2);
    const parent = await nexus.until(body.command_id, 'failed');
    expect(parent).toMatchObject({
      agent_id: null,
      target: 'label:pool=fan-1',
      result: { success: false, summary: { completed: 1, failed: 1 } },
    });
    const list = await nexus.app.call<{ commands: { agent_id: string; status: string; parent_id: string }[] }>(
      'GET',
      `/api/v1/commands?parent=${body.command_id}`,
      { key: nexus.admin },
    );
    expect(Object.fromEntries(list.body.commands.map((child) => [child.agent_id, child.status]))).toEqual({
      [good.agent.id]: 'completed',
      [bad.agent.id]: 'failed',
    });
    expect((await nexus.eventsOf(body.command_id)).at(-1)).toBe('command.failed');
  });

  it('completes when all complete', async () => {
    const labels = { group: 'fan-2' };
    for (let i = 0; i < 3; i++) await nexus.agent({ labels }, (fake, { command_id }) => fake.execute(command_id));
    const id = await nexus.send('group:fan-2');
    expect(await nexus.until(id, 'completed')).toMatchObject({ result: { success: true, summary: { completed: 3 } } });
  });

  it('is cancelled with all its children', async () => {
    const labels = { pool: 'fan-3' };
    const fakes = [await nexus.agent({ labels }), await nexus.agent({ labels })];
    const { body } = await nexus.post({ command_type: 'system.ping', target: 'label:pool=fan-3' });
    await eventually(() => fakes.every((fake) => fake.commands.length === 1));
    fakes[0].execute(fakes[0].commands[0].command_id);
    await nexus.until(body.command_id, 'running');
    const first = await nexus.cancel(body.command_id);
    expect(first.body.status).toBe('cancelled');
    expect((await nexus.cancel(body.command_id)).body).toEqual(first.body);
    await fakes[1].received('cancel');
    expect(await nexus.get(body.command_id)).toMatchObject({
      status: 'cancelled',
      result: { summary: { completed: 1, cancelled: 1 } },
    });
  });
});

describe('retrying', () => {
  it('makes a new command of a finished one', async () => {
    const fake = await nexus.agent({}, (it, { command_id }) => it.execute(command_id));
    const { body } = await nexus.post({
      command_type: 'system.ping',
      target: fake.agent.id,
      parameters: { n: 1 },
      priority: 'high',
      idempotency_key: 'retry-1',
    });
    await nexus.until(body.command_id, 'completed');
    const again = await nexus.app.call<typeof body>('POST', `/api/v1/commands/${body.command_id}/retry`, {
      key: nexus.admin,
    });
    expect(again.status).toBe(201);
    expect(again.body).toMatchObject({ retry_of: body.command_id, parameters: { n: 1 }, priority: 'high' });
    expect(again.body.command_id).not.toBe(body.command_id);
    await nexus.until(again.body.command_id, 'completed');
  });

  it('of a command for several agents goes to those its target names now', async () => {
    const labels = { pool: randomUUID().slice(0, 8) };
    const agents = [await nexus.register({ labels }), await nexus.register({ labels })];
    const { body } = await nexus.post({ command_type: 'system.ping', target: `label:pool=${labels.pool}` });
    await nexus.cancel(body.command_id);
    await nexus.app.call('DELETE', `/api/v1/ai/agents/${agents[0].id}`, { key: nexus.admin });
    const retry = (id: string) => nexus.app.call<Command>('POST', `/api/v1/commands/${id}/retry`, { key: nexus.admin });
    const whole = await retry(body.command_id);
    expect(whole.status).toBe(201);
    expect(whole.body).toMatchObject({ retry_of: body.command_id, agent_id: agents[1].id });
    const children = await Promise.all((body.children ?? []).map((id) => nexus.get(id)));
    for (const { command_id, agent_id } of children) {
      const again = await retry(command_id);
      expect(again.status).toBe(agent_id === agents[0].id ? 404 : 201);
    }
  });

  it('is refused while the command is not finished', async () => {
    const agent = await nexus.register();
    const id = await nexus.send(agent.id);
    const { status } = await nexus.app.call('POST', `/api/v1/commands/${id}/retry`, { key: nexus.admin });
    expect(status).toBe(409);
  });
});

describe('an idempotency key', () => {
  it('gives the same command for the same body, whatever the order of its keys, and refuses another', async () => {
    const agent = await nexus.register();
    const body = {
      command_type: 'system.ping',
      target: agent.id,
      idempotency_key: 'key-1',
      parameters: { a: 1, b: 2 },
    };
    const first = await nexus.post(body);
    const second = await nexus.post({ ...body, parameters: { b: 2, a: 1 } });
    expect([first.status, second.status]).toEqual([201, 200]);
    expect(second.body.command_id).toBe(first.body.command_id);
    expect((await nexus.post({ ...body, parameters: { a: 2 } })).status).toBe(409);
    const { key } = await actor(nexus.app);
    expect((await nexus.post(body, key)).body.command_id).not.toBe(first.body.command_id);
  });

  it('makes one command of many requests at once', async () => {
    const agent = await nexus.register();
    const body = { command_type: 'system.ping', target: agent.id, idempotency_key: 'key-2' };
    const answers = await Promise.all(Array.from({ length: 8 }, () => nexus.post(body)));
    expect(new Set(answers.map((answer) => answer.body.command_id)).size).toBe(1);
    expect(answers.filter((answer) => answer.status === 201)).toHaveLength(1);
    expect(answers.filter((answer) => answer.status === 200)).toHaveLength(7);
  });
});
