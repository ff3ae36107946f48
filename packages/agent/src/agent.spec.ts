import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FakeNexus, newSigningKey } from '../test/fake-nexus.js';
import { Agent, type AgentOptions } from './agent.js';
import { AgentError } from './agent-error.js';
import { readConfig } from './agent-config.js';
import { joinNexus } from './identity.js';
import { type LogFields, silentLog } from './log.js';
import { CLOSE_REPLACED, PROTOCOL_VERSION, type TelemetryEventFrame } from './protocol.js';

let nexus: FakeNexus;
let home: string;
const agents: Agent[] = [];

beforeEach(async () => {
  nexus = await FakeNexus.start();
  home = path.join(mkdtempSync(path.join(os.tmpdir(), 'agent-spec-')), 'home');
});

afterEach(async () => {
  await Promise.all(agents.splice(0).map((agent) => agent.stop(0)));
  await nexus.leave();
  rmSync(path.dirname(home), { recursive: true, force: true });
});

function agentWith(options: Partial<AgentOptions> = {}): Agent {
  const agent = new Agent({ url: nexus.url, home, key: nexus.apiKey, intervalMs: 0, name: AGENT_NAME, ...options });
  agents.push(agent);
  return agent;
}

async function connected(options: Partial<AgentOptions> = {}): Promise<Agent> {
  const agent = agentWith(options);
  const welcome = once(agent, 'connected');
  await agent.start();
  await welcome;
  return agent;
}

/** Under which the fake server knows each agent. */
const AGENT_NAME = 'test-agent';

function event(n: number): TelemetryEventFrame {
  return {
    event_id: randomUUID(),
    event_type: 'test.event',
    source: AGENT_NAME,
    timestamp: new Date().toISOString(),
    data: { n },
  };
}

function spooled(): string[] {
  return readdirSync(path.join(home, 'spool'));
}

describe('joining', () => {
  it('trades the token for a key, keeps it, and needs no token again', async () => {
    nexus.tokens.add('once');
    const first = await connected({ key: undefined, join: 'once', name: 'web-1', labels: { env: 'test' } });
    expect(nexus.joins).toEqual([
      {
        token: 'once',
        nonce: expect.stringMatching(/^[\w-]{43}$/) as string,
        agent_name: 'web-1',
        agent_type: 'host',
        capabilities: ['commands'],
        version: expect.any(String) as string,
        labels: { env: 'test' },
      },
    ]);
    const file = path.join(home, 'identity.json');
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual({
      agent_id: nexus.agentId,
      agent_name: 'test-agent',
      api_key: nexus.apiKey,
      url: `${nexus.url}/api/v1`,
      signing_key: nexus.signing.publicKey,
    });
    expect(existsSync(path.join(home, 'join-nonce'))).toBe(false);
    expect(first.id).toBe(nexus.agentId);
    await first.stop();
    await connected({ key: undefined, join: 'once' });
    expect(nexus.joins).toHaveLength(1);
    expect(nexus.hellos[1].boot_id).not.toBe(nexus.hellos[0].boot_id);
  });

  it('repeats a join whose answer was lost with the same nonce, also after a restart', async () => {
    nexus.tokens.add('once');
    nexus.loseJoinAnswers = 2;
    const stopped = agentWith({ key: undefined, join: 'once' });
    const starting = stopped.start().catch((error: Error) => error.name);
    await nexus.until(() => nexus.joins.length === 1, 'the first join');
    await stopped.stop();
    expect(await starting).toBe('AbortError');
    await connected({ key: undefined, join: 'once' });
    expect(nexus.joins.length).toBe(3);
    expect(new Set(nexus.joins.map(({ nonce }) => nonce)).size).toBe(1);
  });

  it('gives up when no token can be good any more', async () => {
    nexus.loseJoinAnswers = 100;
    const request = { token: 'once', agent_name: 'a', agent_type: 'host', capabilities: [], version: '1', labels: {} };
    const file = path.join(path.dirname(home), 'identity.json');
    const join = joinNexus(`${nexus.url}/api/v1`, request, file, silentLog, AbortSignal.timeout(30_000), 50);
    await expect(join).rejects.toThrow(/^Nexus could not be joined: /);
  });

  it('finds the API under the path of the URL, and again from its home', async () => {
    nexus.apiPath = '/gateway/v2';
    nexus.tokens.add('once');
    const url = `${nexus.url}/gateway/v2/`;
    await (await connected({ key: undefined, join: 'once', url })).stop();
    await (await connected({ key: undefined, url: undefined })).stop();
    expect(nexus.hellos).toHaveLength(2);
  });

  it('starts from a home that names only the server, as older agents wrote it', async () => {
    nexus.tokens.add('once');
    await (await connected({ key: undefined, join: 'once' })).stop();
    const file = path.join(home, 'identity.json');
    const identity = JSON.parse(readFileSync(file, 'utf8')) as Record<string, string>;
    writeFileSync(file, JSON.stringify({ ...identity, url: nexus.url }));
    await (await connected({ key: undefined, join: 'once', url: undefined })).stop();
    expect(nexus.hellos).toHaveLength(2);
  });

  it('says in the words of the server why it was refused', async () => {
    await expect(agentWith({ key: undefined, join: 'used' }).start()).rejects.toThrow(
      new AgentError('Nexus refused the join: This join token is not valid'),
    );
  });

  it('does not start without key and token', async () => {
    await expect(agentWith({ key: undefined }).start()).rejects.toThrow('give it a join token');
  });

  it('tells which server a home belongs to before it spends a token on another', async () => {
    nexus.tokens.add('once');
    await (await connected({ key: undefined, join: 'once' })).stop();
    const elsewhere = agentWith({ key: undefined, join: 'two', url: 'http://127.0.0.1:9' });
    await expect(elsewhere.start()).rejects.toThrow(`test-agent of ${nexus.url}`);
  });
});

describe('the signing key', () => {
  const joined = { key: undefined, join: 'once' };
  const identity = (): Record<string, string> =>
    JSON.parse(readFileSync(path.join(home, 'identity.json'), 'utf8')) as Record<string, string>;
  const ping = () => nexus.command('system.ping');
  const badSignature = { code: 'BAD_SIGNATURE' };

  beforeEach(() => void nexus.tokens.add('once'));

  it('of the join holds, whatever a later welcome shows and whoever knows the API key', async () => {
    const agent = await connected(joined);
    expect(await nexus.result(ping())).toMatchObject({ status: 'completed' });
    await agent.stop();
    const trusted = nexus.signing;
    nexus.signing = newSigningKey();
    const again = await connected(joined);
    expect(await nexus.refusal(ping())).toMatchObject(badSignature);
    expect(identity().signing_key).toBe(trusted.publicKey);
    await again.stop();
    nexus.signing = trusted;
    await connected(joined);
    expect(await nexus.result(ping())).toMatchObject({ status: 'completed' });
  });

  it('of the first welcome is kept by an agent that joined before there were any', async () => {
    await (await connected(joined)).stop();
    const { signing_key: _, ...old } = identity();
    writeFileSync(path.join(home, 'identity.json'), JSON.stringify(old));
    const agent = await connected(joined);
    expect(await nexus.result(ping())).toMatchObject({ status: 'completed' });
    expect(identity()).toEqual({ ...old, signing_key: nexus.signing.publicKey });
    await agent.stop();
    nexus.signing = newSigningKey();
    await connected(joined);
    expect(await nexus.refusal(ping())).toMatchObject(badSignature);
  });

  it('goes with an issued key; without one the first welcome decides for this run', async () => {
    const warn = vi.fn();
    const trusting = await connected({ log: { ...silentLog, warn } });
    expect(await nexus.result(ping())).toMatchObject({ status: 'completed' });
    expect(warn).toHaveBeenCalledWith(expect.stringContaining('No signing key was given'));
    nexus.signing = newSigningKey();
    nexus.cutLinks();
    await nexus.until(() => nexus.hellos.length === 2 && trusting.connected, 'another link');
    expect(await nexus.refusal(ping())).toMatchObject(badSignature);
    await trusting.stop();
    await connected({ signingKey: nexus.signing.publicKey });
    expect(await nexus.result(ping())).toMatchObject({ status: 'completed' });
  });

  it('must be one', async () => {
    await expect(agentWith({ signingKey: 'nexus_agent_key' }).start()).rejects.toThrow('not an Ed25519 public key');
  });
});

describe('the home', () => {
  it('has one agent at a time', async () => {
    await connected();
    await expect(agentWith().start()).rejects.toThrow('already runs on');
  });

  it('is taken over from an agent that was killed', async () => {
    mkdirSync(home, { recursive: true });
    writeFileSync(path.join(home, 'lock'), JSON.stringify({ pid: process.pid, started: 'another-boot:1' }));
    expect((await connected()).connected).toBe(true);
  });

  it('must be a folder that can be written', async () => {
    writeFileSync(home, 'a file');
    await expect(agentWith().start()).rejects.toThrow('cannot be written');
  });
});

describe('the link', () => {
  it('advertises what the agent does and beats', async () => {
    await connected({ config: readConfig({ commands: { 'app.restart': { executable: '/bin/true' } } }) });
    expect(nexus.hellos[0]).toMatchObject({ protocol: PROTOCOL_VERSION, hostname: os.hostname(), unfinished: [] });
    expect(nexus.hellos[0].commands.map(({ type }) => type)).toEqual([
      'system.ping',
      'system.info',
      'system.processes',
      'app.restart',
    ]);
    const beat = await nexus.until(() => nexus.heartbeats[0], 'a heartbeat');
    expect(beat).toEqual({ type: 'heartbeat', load_percent: 0, running: 0, spooled_batches: 0 });
  });

  it('comes back when the server was away', async () => {
    await connected();
    await nexus.leave();
    await nexus.listen();
    await nexus.until(() => nexus.hellos.length === 2, 'the second hello');
    expect(nexus.hellos[1].boot_id).toBe(nexus.hellos[0].boot_id);
  });

  it('comes back about when a leaving server asks it to', async () => {
    await connected();
    nexus.send({ type: 'bye', reason: 'drain', retry_after_ms: 50 });
    nexus.cutLinks(1001);
    await nexus.until(() => nexus.hellos.length === 2, 'the second hello', 1000);
    expect(nexus.links).toHaveLength(1);
  });

  it('is given up when nothing was heard for a minute', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
    await connected();
    vi.advanceTimersByTime(58_000);
    expect(nexus.links).toHaveLength(1);
    vi.advanceTimersByTime(10_000);
    vi.useRealTimers();
    await nexus.until(() => nexus.hellos.length === 2, 'another link');
    expect(nexus.links).toHaveLength(1);
  });

  it('is not tried again soon with a key that was refused', async () => {
    const pauses: unknown[] = [];
    const log = { ...silentLog, error: (_message: string, fields?: LogFields) => pauses.push(fields?.['retry_ms']) };
    await agentWith({ key: 'nexus_agent_revoked', log }).start();
    await nexus.until(() => pauses.length > 0, 'the refusal');
    expect(pauses[0]).toBeGreaterThanOrEqual(30_000);
    expect(pauses[0]).toBeLessThanOrEqual(60_000);
    await connected({ home: `${home}-2` });
    pauses.length = 0;
    nexus.cutLinks(1008);
    await nexus.until(() => nexus.links.length === 0, 'no link');
    expect(nexus.hellos).toHaveLength(1);
  });

  it('stands whatever the server sends', async () => {
    const agent = await connected();
    for (const text of ['{', 'null', '[]', '{"type":"news"}', '{"type":"command"}', '{"type":"telemetry_ack"}']) {
      for (const link of nexus.links) link.send(text);
    }
    const id = nexus.command('system.ping');
    await nexus.result(id);
    expect(agent.connected).toBe(true);
  });

  it('gives way to another agent with its key', async () => {
    const agent = await connected();
    const replaced = once(agent, 'replaced');
    nexus.cutLinks(CLOSE_REPLACED);
    await replaced;
    expect(agent.connected).toBe(false);
  });
});

describe('telemetry', () => {
  it('tells the figures of the host within seconds, each with id and time', async () => {
    await connected({ intervalMs: 60_000 });
    await nexus.until(() => nexus.events.size > 0, 'the first sample', 5000);
    const events = [...nexus.events.values()];
    const names = events.map(({ data }) => data['metric_name']);
    expect(names).toEqual(
      expect.arrayContaining([
        'cpu_usage',
        'memory_usage',
        'memory_used_bytes',
        'load_average_1m',
        'disk_usage',
        'uptime_seconds',
      ]),
    );
    for (const { event_type, source, timestamp, data } of events) {
      expect(event_type).toBe('system.metric');
      expect(source).toBe('test-agent');
      expect(new Date(timestamp).toISOString()).toBe(timestamp);
      expect(data).toMatchObject({ value: expect.any(Number) as number, tags: { host: os.hostname() } });
    }
  });

  it('is spooled while Nexus is away and comes whole and in order, with the same ids', async () => {
    const agent = await connected();
    await nexus.leave();
    const events = Array.from({ length: 20 }, (_, n) => event(n));
    for (const one of events) await agent.record([one]);
    expect(spooled()).toHaveLength(20);
    await agent.stop();
    await nexus.listen();
    await connected();
    await nexus.until(() => nexus.events.size === 20, 'all events');
    expect([...nexus.events.values()]).toEqual(events);
    await nexus.until(() => spooled().length === 0, 'an empty spool');
  });

  it('is sent again with the same ids when the acknowledgement is lost', async () => {
    nexus.ackTelemetry = false;
    const agent = await connected();
    for (let n = 0; n < 6; n++) await agent.record([event(n)]);
    await nexus.until(() => nexus.batches.length === 4, 'a full window');
    nexus.ackTelemetry = true;
    nexus.cutLinks();
    await nexus.until(() => nexus.events.size === 6, 'all events');
    expect(nexus.batches.slice(4, 8)).toEqual(nexus.batches.slice(0, 4));
  });

  it('is of this agent alone', async () => {
    const agent = await connected();
    const foreign = agent.record([event(1), { ...event(2), source: 'another' }]);
    await expect(foreign).rejects.toThrow('The source must be test-agent, not another');
    await agent.record([event(3)]);
    await nexus.until(() => nexus.events.size > 0, 'the event');
    expect([...nexus.events.values()].map(({ data }) => data.n)).toEqual([3]);
  });

  it('waits when the server is overloaded', async () => {
    nexus.nackNext = 1;
    const agent = await connected();
    await agent.record([event(1)]);
    await nexus.until(() => nexus.events.size === 1, 'the event');
    expect(nexus.batches).toHaveLength(2);
    expect(nexus.batches[0]).toBe(nexus.batches[1]);
  });

  it('is cut into frames that the server takes', async () => {
    const agent = await connected();
    const big = Array.from({ length: 1200 }, (_, n) => ({ ...event(n), data: { n, text: 'x'.repeat(300) } }));
    await agent.record(big);
    await nexus.until(() => nexus.events.size === 1200, 'all events');
    expect(new Set(nexus.batches).size).toBeGreaterThanOrEqual(3);
  });

  it('pushes out the oldest when the spool is full, and tells how many', async () => {
    const agent = await connected({ config: readConfig({ spool_limit_bytes: 1024 * 1024 }), intervalMs: 1000 });
    await nexus.until(() => nexus.events.size > 0, 'the first sample');
    await nexus.leave();
    for (let n = 0; n < 10; n++) await agent.record([{ ...event(n), data: { n, text: 'x'.repeat(190_000) } }]);
    expect(spooled().length).toBeLessThan(10);
    nexus.events.clear();
    await nexus.listen();
    const dropped = await nexus.until(
      () =>
        [...nexus.events.values()].find(
          ({ data }) => data['metric_name'] === 'agent_spool_dropped_batches' && Number(data['value']) > 0,
        ),
      'the number of dropped batches',
    );
    expect(Number(dropped.data['value'])).toBeGreaterThanOrEqual(5);
    const kept = [...nexus.events.values()].filter(({ event_type }) => event_type === 'test.event');
    expect(kept.map(({ data }) => data['n'])).toContain(9);
    expect(kept.map(({ data }) => data['n'])).not.toContain(0);
  });
});

it('many light agents live in one process', async () => {
  const many = await Promise.all(
    Array.from({ length: 50 }, () => connected({ home: undefined, ephemeral: true, key: nexus.apiKey })),
  );
  expect(nexus.links).toHaveLength(50);
  expect(many.every((agent) => agent.connected)).toBe(true);
});
