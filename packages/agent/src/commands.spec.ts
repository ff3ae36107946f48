import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FakeNexus, newSigningKey } from '../test/fake-nexus.js';
import { Agent, type AgentOptions } from './agent.js';
import { readConfig } from './agent-config.js';
import { silentLog } from './log.js';
import type { CommandEnvelope } from './protocol.js';

/** Programs for the tests: Node itself with a script each. */
const SCRIPTS: Record<string, string> = {
  args: 'process.stdout.write(JSON.stringify({ argv: process.argv.slice(2), env: process.env, cwd: process.cwd() }))',
  both: `
    const { writeSync } = require('node:fs');
    writeSync(1, 'one '); setTimeout(() => { writeSync(2, 'two '); setTimeout(() => { writeSync(1, 'three'); process.exit(3); }, 150); }, 150);`,
  // The grandchild ignores the polite signal, as does its parent.
  stubborn: `
    const { spawn } = require('node:child_process');
    process.on('SIGTERM', () => {});
    const child = spawn(process.execPath, ['-e', 'process.on("SIGTERM", () => {}); console.log("ready"); setInterval(() => {}, 1000)'], { stdio: ['ignore', 'inherit', 'inherit'] });
    console.log(process.pid, child.pid);
    setInterval(() => {}, 1000);`,
  wait: 'console.log("waiting"); setInterval(() => {}, 1000)',
  runaway: `
    const { spawn } = require('node:child_process');
    const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore', detached: true });
    console.log(process.pid, child.pid);
    setInterval(() => {}, 1000);`,
  note: 'require("node:fs").appendFileSync(process.argv[2], process.argv[3] + " ")',
  flood: `
    const line = Buffer.alloc(64 * 1024, 'é');
    for (let n = 0; n < Number(process.argv[2]); n++) require('node:fs').writeSync(1, line);
    require('node:fs').writeFileSync(process.argv[3], 'done');`,
  bytes: 'process.stdout.write(Buffer.from([0, 255, 254, 10, 200]))',
  letters: `
    const text = Buffer.from('aé€😀');
    let at = 0;
    const next = () => { if (at < text.length) { require('node:fs').writeSync(1, text.subarray(at, ++at)); setTimeout(next, 30); } };
    next();`,
};

let nexus: FakeNexus;
let folder: string;
let agent: Agent;

beforeEach(async () => {
  nexus = await FakeNexus.start();
  folder = mkdtempSync(path.join(os.tmpdir(), 'agent-commands-'));
  for (const [name, code] of Object.entries(SCRIPTS)) writeFileSync(path.join(folder, `${name}.cjs`), code);
  agent = await startAgent();
});

afterEach(async () => {
  await agent.stop(0);
  await nexus.leave();
  rmSync(folder, { recursive: true, force: true });
});

async function startAgent(options: Partial<AgentOptions> = {}): Promise<Agent> {
  const started = new Agent({
    url: nexus.url,
    key: nexus.apiKey,
    home: path.join(folder, 'home'),
    intervalMs: 0,
    config: readConfig({
      max_concurrent: 2,
      commands: {
        'test.args': {
          ...script('args', '--text={text}', '{text}', '{count}'),
          parameters: { text: { type: 'string', required: true }, count: { type: 'integer', default: 1 } },
          env: ['AGENT_SPEC_PASSED'],
          cwd: folder,
        },
        'test.both': script('both'),
        'test.stubborn': script('stubborn'),
        'test.wait': script('wait'),
        'test.runaway': script('runaway'),
        'test.note': {
          ...script('note', path.join(folder, 'notes'), '{text}'),
          parameters: { text: { type: 'string', required: true } },
        },
        'test.short': { ...script('wait'), timeout_seconds: 1 },
        'test.flood': {
          ...script('flood', '{count}', path.join(folder, 'flooded')),
          output_limit_bytes: 2 * 1024 * 1024,
          parameters: { count: { type: 'integer', required: true } },
        },
        'test.bytes': script('bytes'),
        'test.letters': script('letters'),
        'test.missing': { executable: '/nonexistent/program' },
      },
    }),
    ...options,
  });
  const welcome = once(started, 'connected');
  await started.start();
  await welcome;
  return started;
}

function script(name: string, ...args: string[]): { executable: string; args: string[] } {
  return { executable: process.execPath, args: [path.join(folder, `${name}.cjs`), ...args] };
}

function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

function expiryOf(id: string): string {
  return (JSON.parse(nexus.known(id).frame.envelope) as CommandEnvelope).expires_at;
}

function outputOf(id: string): string {
  return nexus.known(id).output.toString();
}

describe('built-ins', () => {
  it('answer with text and data', async () => {
    const ping = await nexus.result(nexus.command('system.ping', { message: 'hello' }));
    expect(ping).toMatchObject({ status: 'completed', data: { reply: 'pong', message: 'hello' }, output_bytes: 11 });
    expect(outputOf(ping.command_id)).toBe('pong hello\n');

    const info = await nexus.result(nexus.command('system.info'));
    expect(info.data).toMatchObject({ hostname: os.hostname(), cpu_count: os.cpus().length });
    expect(outputOf(info.command_id)).toContain(`node_version: ${process.version}`);

    const list = await nexus.result(nexus.command('system.processes', { limit: 3, sort_by: 'memory' }));
    const { processes } = list.data as { processes: { pid: number; memory_bytes: number }[] };
    expect(processes).toHaveLength(3);
    expect(processes[0].memory_bytes).toBeGreaterThanOrEqual(processes[2].memory_bytes);
    expect(outputOf(list.command_id)).toContain(String(processes[0].pid));
  });
});

describe('a program', () => {
  it('gets its arguments as they are, its folder, and nothing of the environment but what is named', async () => {
    process.env['AGENT_SPEC_PASSED'] = 'passed';
    process.env['AGENT_SPEC_SECRET'] = 'secret';
    const text = 'a "b" $HOME; `id` é';
    const id = nexus.command('test.args', { text });
    expect(await nexus.result(id)).toMatchObject({ status: 'completed', exit_code: 0, signal: null });
    const told = JSON.parse(outputOf(id)) as { argv: string[]; env: Record<string, string>; cwd: string };
    expect(told.argv).toEqual([`--text=${text}`, text, '1']);
    expect(told.cwd).toBe(folder);
    expect(told.env.NEXUS_COMMAND_ID).toBe(`cmd_${id}`);
    expect(Object.keys(told.env).sort()).toEqual(['AGENT_SPEC_PASSED', 'LANG', 'NEXUS_COMMAND_ID', 'PATH']);
  });

  it('has its two streams told in order of arrival, and its exit code', async () => {
    const id = nexus.command('test.both');
    expect(await nexus.result(id)).toMatchObject({
      status: 'failed',
      exit_code: 3,
      error: { code: 'EXIT_CODE' },
      output_bytes: 13,
    });
    expect(nexus.known(id).streams).toEqual([
      { stream: 'stdout', text: 'one ' },
      { stream: 'stderr', text: 'two ' },
      { stream: 'stdout', text: 'three' },
    ]);
  });

  it('may print anything, byte for byte', async () => {
    const id = nexus.command('test.bytes');
    await nexus.result(id);
    expect([...nexus.known(id).output]).toEqual([0, 255, 254, 10, 200]);
  });

  it('has its characters told whole, however it writes them', async () => {
    const id = nexus.command('test.letters');
    await nexus.result(id);
    expect(nexus.known(id).streams.map(({ text }) => text)).not.toContainEqual(expect.stringContaining('\ufffd'));
    expect(outputOf(id)).toBe('aé€😀');
  });

  it('that is not there fails with the reason', async () => {
    expect(await nexus.result(nexus.command('test.missing'))).toMatchObject({
      status: 'failed',
      error: { code: 'NOT_STARTED', message: 'the program could not be started (ENOENT)' },
    });
  });

  it('goes on past its output limit, and the cut is told', async () => {
    const id = nexus.command('test.flood', { count: 64 });
    const result = await nexus.result(id);
    expect(result).toMatchObject({ status: 'completed', output_truncated: true, output_bytes: 2 * 1024 * 1024 });
    expect(readFileSync(path.join(folder, 'flooded'), 'utf8')).toBe('done');
    expect(nexus.known(id).output.equals(Buffer.alloc(2 * 1024 * 1024, 'é'))).toBe(true);
  });
});

describe('output', () => {
  it('is taken up where the server has it after a new link', async () => {
    nexus.ackOutput = false;
    const id = nexus.command('test.flood', { count: 30 });
    await nexus.until(() => readdirSync(folder).includes('flooded'), 'the end of the program');
    expect(nexus.known(id).result).toBeUndefined();
    nexus.ackOutput = true;
    nexus.cutLinks();
    const result = await nexus.result(id);
    expect(result).toMatchObject({ status: 'completed', output_bytes: 30 * 64 * 1024, output_truncated: false });
    expect(nexus.known(id).output.equals(Buffer.alloc(30 * 64 * 1024, 'é'))).toBe(true);
    await nexus.until(() => readdirSync(path.join(folder, 'home/output')).length === 0, 'the output to be let go');
  });

  it('and result survive a stop of the agent while Nexus is away', async () => {
    const id = nexus.command('test.both');
    await nexus.until(() => nexus.known(id).acks > 0, 'the acknowledgement');
    await nexus.leave();
    await agent.stop();
    await nexus.listen();
    agent = await startAgent();
    expect(nexus.hellos[1].unfinished).toEqual([id]);
    expect(await nexus.result(id)).toMatchObject({ status: 'failed', exit_code: 3 });
    expect(outputOf(id)).toBe('one two three');
  });
});

describe('stopping', () => {
  it('cancels the whole process group, also what ignores the first signal', async () => {
    const id = nexus.command('test.stubborn');
    await nexus.until(() => outputOf(id).includes('ready'), 'both processes');
    const pids = /(\d+) (\d+)/.exec(outputOf(id))!.slice(1).map(Number);
    expect(pids.map(isAlive)).toEqual([true, true]);
    nexus.send({ type: 'cancel', command_id: id, reason: 'not needed' });
    expect(await nexus.result(id)).toMatchObject({
      status: 'cancelled',
      message: 'not needed',
      signal: 'SIGKILL',
      error: { code: 'CANCELLED' },
    });
    expect(pids.map(isAlive)).toEqual([false, false]);
  });

  it('reaches what has left the process group', async () => {
    const id = nexus.command('test.runaway');
    const pids = () => (outputOf(id).match(/\d+/g) ?? []).map(Number);
    await nexus.until(() => outputOf(id).includes('\n'), 'both processes');
    expect(pids().map(isAlive)).toEqual([true, true]);
    nexus.send({ type: 'cancel', command_id: id, reason: 'not needed' });
    expect(await nexus.result(id)).toMatchObject({ status: 'cancelled' });
    await nexus.until(() => !pids().some(isAlive), 'the end of both processes');
  });

  it('ends a program at the limit of its type, and at a shorter one of the command', async () => {
    const byType = nexus.command('test.short');
    const byCommand = nexus.command('test.wait', {}, { timeout_seconds: 1 });
    for (const id of [byType, byCommand]) {
      expect(await nexus.result(id)).toMatchObject({
        status: 'timed_out',
        signal: 'SIGTERM',
        error: { code: 'TIMEOUT' },
      });
    }
  });

  it('cancels what waits in the queue before it starts', async () => {
    const [first, second, waiting] = [0, 1, 2].map(() => nexus.command('test.wait'));
    await nexus.until(() => nexus.known(waiting).acks > 0, 'the third acknowledgement');
    nexus.send({ type: 'cancel', command_id: waiting, reason: 'too late' });
    expect(await nexus.result(waiting)).toMatchObject({ status: 'cancelled', started_at: null, output_bytes: 0 });
    const last = nexus.command('test.args', { text: 'x' });
    nexus.send({ type: 'cancel', command_id: first, reason: 'x' });
    expect(await nexus.result(last)).toMatchObject({ status: 'completed' });
    nexus.send({ type: 'cancel', command_id: second, reason: 'x' });
    expect(await nexus.result(second)).toMatchObject({ status: 'cancelled' });
  });

  it('cancels what runs when the agent stops, and says so', async () => {
    const id = nexus.command('test.wait');
    await nexus.until(() => outputOf(id).includes('waiting'), 'the program');
    await agent.stop(50);
    expect(nexus.known(id).result).toMatchObject({ status: 'cancelled', message: 'agent stopped' });
  });
});

it('what waits starts by its urgency, and waiting makes more urgent', async () => {
  const blockers = [nexus.command('test.wait'), nexus.command('test.wait')];
  for (const id of blockers) await nexus.until(() => outputOf(id).includes('waiting'), 'the programs');
  const ago = (seconds: number): string => new Date(Date.now() - seconds * 1000).toISOString();
  const note = (text: string, change: Partial<CommandEnvelope>) => nexus.command('test.note', { text }, change);
  const waiting = [
    note('plain', {}),
    note('low', { priority: 1, created_at: ago(0) }),
    note('normal', { priority: 3, created_at: ago(0) }),
    note('critical', { priority: 9, created_at: ago(0) }),
    note('old', { priority: 1, created_at: ago(20 * 60) }),
  ];
  for (const id of waiting) await nexus.until(() => nexus.known(id).acks > 0, 'the acknowledgement');
  nexus.send({ type: 'cancel', command_id: blockers[0], reason: 'x' });
  for (const id of waiting) expect(await nexus.result(id)).toMatchObject({ status: 'completed' });
  expect(readFileSync(path.join(folder, 'notes'), 'utf8')).toBe('old critical plain normal low ');
});

describe('what is not taken on', () => {
  it.each([
    ['a type that is not allowed', 'test.unknown', {}, {}, 'TYPE_NOT_ALLOWED'],
    ['a parameter that does not fit', 'test.args', { text: '-x' }, {}, 'INVALID_PARAMETERS'],
    ['a parameter that is not known', 'system.info', { all: true }, {}, 'INVALID_PARAMETERS'],
    ['a limit out of range', 'system.processes', { limit: 101 }, {}, 'INVALID_PARAMETERS'],
    ['what has expired', 'system.ping', {}, { expires_at: '2020-01-01T00:00:00Z' }, 'EXPIRED'],
    ['what is for another', 'system.ping', {}, { agent_id: 'agent_other' }, 'WRONG_AGENT'],
  ])('%s', async (_what, type, parameters, change, code) => {
    expect(await nexus.refusal(nexus.command(type, parameters, change))).toMatchObject({ code });
  });

  it('names the parameter', async () => {
    const { message } = await nexus.refusal(nexus.command('test.args', { text: 'ok', count: 'many' }));
    expect(message).toBe('count must be an integer');
  });

  it('is logged under the id that people know', async () => {
    const warn = vi.fn();
    await agent.stop(0);
    agent = await startAgent({ log: { ...silentLog, warn } });
    const id = nexus.command('test.unknown');
    await nexus.refusal(id);
    expect(warn).toHaveBeenCalledWith('A command was refused', { command: `cmd_${id}`, code: 'TYPE_NOT_ALLOWED' });
  });

  it('what another key signed', async () => {
    const id = nexus.command('system.ping', {}, {}, newSigningKey().privateKey);
    expect(await nexus.refusal(id)).toMatchObject({ code: 'BAD_SIGNATURE' });
    expect(nexus.known(id).acks).toBe(0);
  });

  it('a text that was changed after it was signed', async () => {
    const id = nexus.command('system.ping', {}, { expires_at: '2020-01-01T00:00:00Z' });
    await nexus.refusal(id);
    const { frame } = nexus.known(id);
    const forged = frame.envelope.replace(id, randomUUID()).replace('2020', '2999');
    const forgedId = (JSON.parse(forged) as { command_id: string }).command_id;
    nexus.commands.set(forgedId, { frame, acks: 0, output: Buffer.alloc(0), streams: [] });
    nexus.send({ ...frame, envelope: forged });
    expect(await nexus.refusal(forgedId)).toMatchObject({ code: 'BAD_SIGNATURE' });
  });

  it('more than a hundred that would have to wait', async () => {
    const ids = Array.from({ length: 104 }, () => nexus.command('test.wait'));
    expect(await nexus.refusal(ids[103])).toMatchObject({ code: 'BUSY' });
    expect(ids.filter((id) => nexus.known(id).refused)).toHaveLength(2);
  });
});

describe('what waited when the agent stopped', () => {
  it('runs at the next start, unless Nexus does not want it any more', async () => {
    const blockers = [nexus.command('test.wait'), nexus.command('test.wait')];
    const [wanted, unwanted, cancelled] = ['a', 'b', 'c'].map((text) => nexus.command('test.args', { text }));
    const expired = nexus.command(
      'test.args',
      { text: 'd' },
      { expires_at: new Date(Date.now() + 1000).toISOString() },
    );
    await nexus.until(() => nexus.known(expired).acks > 0, 'all acknowledgements');
    await agent.stop(0);
    for (const id of blockers) expect(nexus.known(id).result).toMatchObject({ status: 'cancelled' });
    nexus.commands.delete(unwanted);
    await nexus.until(() => Date.now() > Date.parse(expiryOf(expired)), 'the expiry');
    nexus.afterWelcome = [{ type: 'cancel', command_id: cancelled, reason: 'meanwhile' }];
    agent = await startAgent();
    expect(nexus.hellos[1].unfinished).toEqual([wanted, unwanted, cancelled, expired]);
    expect(await nexus.result(wanted)).toMatchObject({ status: 'completed' });
    expect(await nexus.result(cancelled)).toMatchObject({ status: 'cancelled', started_at: null });
    expect(await nexus.result(expired)).toMatchObject({
      status: 'failed',
      error: { code: 'EXPIRED' },
      started_at: null,
    });
  });
});

describe('a command that comes twice', () => {
  it('runs once and is told about again', async () => {
    const id = nexus.command('test.both');
    const known = nexus.known(id);
    nexus.send(known.frame);
    nexus.send(known.frame);
    await nexus.result(id);
    const acks = known.acks;
    nexus.send(known.frame);
    await nexus.until(() => known.acks > acks, 'the repeated acknowledgement');
    expect(outputOf(id)).toBe('one two three');
  });

  it('is known after a restart too', async () => {
    const id = nexus.command('test.both');
    const known = nexus.known(id);
    await nexus.result(id);
    await agent.stop();
    agent = await startAgent();
    const acks = known.acks;
    nexus.send(known.frame);
    await nexus.until(() => known.acks > acks, 'the acknowledgement');
    const after = nexus.command('system.ping');
    await nexus.result(after);
    expect(outputOf(id)).toBe('one two three');
  });
});
