import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AgentCommand, build } from '../test/agent-command.js';
import { FakeNexus } from '../test/fake-nexus.js';
import { CLOSE_REPLACED } from './protocol.js';

let nexus: FakeNexus;
let folder: string;
const started: AgentCommand[] = [];

beforeAll(build);

beforeEach(async () => {
  nexus = await FakeNexus.start();
  folder = mkdtempSync(path.join(os.tmpdir(), 'agent-cli-'));
});

afterEach(async () => {
  await Promise.all(started.splice(0).map((command) => command.kill('SIGKILL')));
  await nexus.leave();
  rmSync(folder, { recursive: true, force: true });
});

function start(args: string[], options: Parameters<typeof AgentCommand.start>[1] = {}): AgentCommand {
  const command = AgentCommand.start(args, options);
  started.push(command);
  return command;
}

function startAgent(...args: string[]): AgentCommand {
  const given = ['--url', nexus.url, '--home', path.join(folder, 'home'), '--interval', '1', ...args];
  return start(given, { env: { NEXUS_AGENT_KEY: nexus.apiKey } });
}

async function failure(args: string[], env: Record<string, string> = {}): Promise<string> {
  const command = start(args, { env });
  expect(await command.ended).toEqual({ code: 1, signal: null });
  expect(command.stderr.trim().split('\n')).toHaveLength(1);
  return command.stderr;
}

function programFor(name: string, code: string): string {
  const file = path.join(folder, `${name}.cjs`);
  writeFileSync(file, code);
  return file;
}

function configWith(commands: Record<string, unknown>): string {
  const file = path.join(folder, 'agent.json');
  writeFileSync(file, JSON.stringify({ commands }), { mode: 0o600 });
  return file;
}

/** Processes that carry the mark of a command. */
function marked(): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return [...nexus.commands.keys()].some((id) =>
        readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`NEXUS_COMMAND_ID=cmd_${id}`),
      );
    } catch {
      return false;
    }
  });
}

describe('the command line', () => {
  it('explains itself', async () => {
    const help = start(['--help']);
    expect(await help.ended).toEqual({ code: 0, signal: null });
    expect(help.stdout).toContain('--join TOKEN');
    const version = start(['--version']);
    await version.ended;
    expect(version.stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it('says in one sentence why it cannot start', async () => {
    const home = ['--home', path.join(folder, 'home')];
    const url = ['--url', nexus.url];
    expect(await failure([...url, ...home])).toContain('has no key yet');
    expect(await failure([...home])).toContain('give --url');
    expect(await failure([...url, ...home, '--join', 'used'])).toContain('This join token is not valid');
    const file = programFor('file', '');
    expect(await failure([...url, '--home', path.join(file, 'home')])).toContain('cannot be written');
    if (process.platform === 'linux') {
      expect(await failure([...url, '--home', '/proc/x/y'])).toContain('cannot be written');
    }
    expect(await failure([...url, ...home, '--what'])).toContain("'--what'");
    const config = configWith({ 'a.b': { executable: 'sh' }, 'c.d': { shell: 'x' } });
    const wrong = await failure([...url, ...home, '--config', config]);
    expect(wrong).toContain('commands.a.b.executable');
    expect(wrong).toContain('commands.c.d.shell');
  });

  it('takes http:// to another machine only when it is told to', async () => {
    const home = ['--home', path.join(folder, 'home')];
    const env = { NEXUS_AGENT_KEY: nexus.apiKey };
    for (const url of ['http://192.0.2.1:8000', 'http://nexus.invalid', 'http://127.0.0.1.nexus.invalid']) {
      expect(await failure(['--url', url, ...home], env)).toContain('--insecure-http');
    }
    expect(
      await failure(['--url', 'http://nexus.invalid', ...home], { ...env, NEXUS_AGENT_INSECURE_HTTP: 'yes' }),
    ).toContain('must be true or false');
    const url = ['--url', 'http://nexus.invalid', ...home];
    const told = [start([...url, '--insecure-http'], { env })];
    await nexus.until(() => told[0].stderr.includes('Nexus cannot be reached'), 'a try');
    await told[0].kill('SIGKILL');
    told.push(start(url, { env: { ...env, NEXUS_AGENT_INSECURE_HTTP: 'true' } }));
    await nexus.until(() => told[1].stderr.includes('Nexus cannot be reached'), 'another try');
    for (const own of ['http://localhost:1', 'http://[::1]:1', 'http://127.1:1']) {
      const agent = start(['--url', own, '--home', path.join(folder, own.slice(7))], { env });
      await nexus.until(() => agent.stderr.includes('Nexus cannot be reached'), `a try of ${own}`);
    }
  });

  it('joins, runs, logs JSON lines without its key, and stops on SIGTERM', async () => {
    nexus.tokens.add('once');
    const agent = start(
      ['--url', nexus.url, '--home', path.join(folder, 'home'), '--label', 'env=test', '--interval', '1'],
      { env: { NEXUS_AGENT_JOIN: 'once', NEXUS_AGENT_NAME: 'web-2' } },
    );
    await nexus.until(() => nexus.events.size > 0, 'the first figures');
    expect(nexus.joins[0]).toMatchObject({ agent_name: 'web-2', labels: { env: 'test' } });
    agent.child.kill('SIGTERM');
    expect(await agent.ended).toEqual({ code: 0, signal: null });
    const lines = agent.stderr
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { msg: string });
    expect(lines.map(({ msg }) => msg)).toContain('Connected to Nexus');
    expect(agent.stderr).not.toContain(nexus.apiKey);
    expect(readdirSync(path.join(folder, 'home'))).not.toContain('lock');
  });

  it('does not share a home, and takes it over from a killed agent', async () => {
    const first = startAgent();
    await nexus.until(() => nexus.hellos.length === 1, 'the first agent');
    const key = { NEXUS_AGENT_KEY: nexus.apiKey };
    expect(await failure(['--url', nexus.url, '--home', path.join(folder, 'home')], key)).toContain('already runs on');
    await first.kill('SIGKILL');
    startAgent();
    await nexus.until(() => nexus.hellos.length === 2, 'the second agent');
    expect(nexus.hellos[1].boot_id).not.toBe(nexus.hellos[0].boot_id);
  });

  it('ends with code 3 when another agent takes over', async () => {
    const agent = startAgent();
    await nexus.until(() => nexus.hellos.length === 1, 'the agent');
    nexus.cutLinks(CLOSE_REPLACED);
    expect(await agent.ended).toEqual({ code: 3, signal: null });
    expect(agent.stderr).toContain('taken over');
  });

  it('does not outlive the process that holds its channel', async () => {
    const agent = start(['--url', nexus.url, '--home', path.join(folder, 'home')], {
      env: { NEXUS_AGENT_KEY: nexus.apiKey },
      channel: true,
    });
    await nexus.until(() => nexus.hellos.length === 1, 'the agent');
    agent.child.disconnect();
    expect(await agent.ended).toEqual({ code: 0, signal: null });
  });
});

describe('kill -9', () => {
  it('20 times while commands run: no effect happens twice, every end is true', async () => {
    const effects = path.join(folder, 'effects');
    const append = programFor(
      'append',
      `const { appendFileSync } = require('node:fs');
       setTimeout(() => {
         appendFileSync(process.argv[2], process.argv[3] + '\\n');
         setTimeout(() => console.log('did ' + process.argv[3]), Number(process.argv[4]));
       }, Number(process.argv[4]));`,
    );
    const config = configWith({
      'test.append': {
        executable: process.execPath,
        args: [append, effects, '{word}', '{ms}'],
        parameters: { word: { type: 'string', required: true }, ms: { type: 'integer', required: true } },
      },
    });
    const words = new Map<string, string>();
    const give = (count: number): void => {
      for (let n = 0; n < count; n++) {
        const word = `word-${words.size}`;
        words.set(nexus.command('test.append', { word, ms: Math.floor(Math.random() * 60) }), word);
      }
    };
    for (let round = 1; round <= 20; round++) {
      const agent = startAgent('--config', config);
      await nexus.until(() => nexus.hellos.length === round, `hello ${round}`);
      give(5);
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 400));
      await agent.kill('SIGKILL');
    }
    startAgent('--config', config);
    await nexus.until(() => nexus.hellos.length === 21, 'the last hello');
    // What no agent acknowledged is still the server's to send, as is what it is not sure about.
    for (const known of nexus.commands.values()) if (!known.result) nexus.send(known.frame);
    for (const id of words.keys()) await nexus.result(id);

    const done = readFileSync(effects, 'utf8').trim().split('\n');
    expect(new Set(done).size).toBe(done.length);
    const ends = { completed: 0, unknown: 0 };
    for (const [id, word] of words) {
      const { result, output } = nexus.known(id);
      if (result?.status === 'completed') {
        ends.completed++;
        expect(done).toContain(word);
        expect(output.toString()).toBe(`did ${word}\n`);
      } else {
        ends.unknown++;
        expect(result).toMatchObject({ status: 'failed', error: { code: 'UNKNOWN_OUTCOME' } });
      }
    }
    expect(ends.completed + ends.unknown).toBe(100);
    expect(ends.completed).toBeGreaterThan(0);
    expect(ends.unknown).toBeGreaterThan(0);
  }, 120_000);

  it('leaves no program behind, not even one that left its group', async () => {
    const tree = programFor(
      'tree',
      `const { spawn } = require('node:child_process');
       const sleep = ['-e', 'process.on("SIGTERM", () => {}); setInterval(() => {}, 1000)'];
       spawn(process.execPath, sleep, { stdio: 'ignore' });
       spawn(process.execPath, sleep, { stdio: 'ignore', detached: true }).unref();
       console.log('grown');
       setInterval(() => {}, 1000);`,
    );
    const config = configWith({ 'test.tree': { executable: process.execPath, args: [tree] } });
    const agent = startAgent('--config', config);
    await nexus.until(() => nexus.hellos.length === 1, 'the agent');
    const id = nexus.command('test.tree');
    await nexus.until(() => nexus.known(id).output.length > 0, 'the tree');
    await nexus.until(() => marked().length === 3, 'three processes');
    await agent.kill('SIGKILL');
    startAgent('--config', config);
    expect(await nexus.result(id)).toMatchObject({
      status: 'failed',
      error: { code: 'UNKNOWN_OUTCOME' },
      output_bytes: 6,
      output_truncated: true,
    });
    await nexus.until(() => marked().length === 0, 'no process');
    expect(nexus.known(id).output.toString()).toBe('grown\n');
  });
});
