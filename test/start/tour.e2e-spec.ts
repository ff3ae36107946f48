import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.js';
import { freePort, NexusProcess, ROOT, temporaryHome } from '../support/nexus-process.js';

/** The commands of the README's tour in their order, each on one line. */
const commands = ((): string[] => {
  const tour = readFileSync(path.join(ROOT, 'README.md'), 'utf8').split('\n## Five-minute tour\n')[1].split('\n## ')[0];
  return [...tour.matchAll(/```bash\n([^]*?)```/g)].flatMap(([, block]) =>
    block
      .trim()
      .replace(/\\\n\s*/g, '')
      .split('\n'),
  );
})();

interface Answer {
  agents: { agent_name: string; connected: boolean }[];
  events: { source: string; data: { metric_name: string } }[];
  series: { points: { value: number }[] }[];
  entries: { action: string; status_code: number; resource_id: string | null }[];
  status: string;
  event_id: string;
  command_id: string;
  token: string;
  result: { output: string } | null;
}

/** What the text of the README promises of each command that asks the server, in the order of the tour. */
const promises: [command: string, holds: (answer: Answer, text: string) => unknown][] = [
  ['/ai/agents', ({ agents: [local] }) => local?.agent_name === 'local' && local.connected],
  ['/telemetry/events?source=local', ({ events }) => events.length === 3],
  ['/telemetry/metrics/query', ({ series }) => series.some(({ points }) => points.some(({ value }) => value >= 0))],
  ['-X POST "$NEXUS/telemetry/events"', ({ status, event_id }) => status === 'accepted' && event_id],
  ['-X POST "$NEXUS/commands"', ({ command_id }) => command_id],
  ['/commands/cmd_', ({ status, result }) => status === 'completed' && result?.output.includes(os.hostname())],
  ['/logs?follow=true', (_, text) => text.includes(`hostname: ${os.hostname()}`) && text.includes('event: complete')],
  ['/join-tokens', ({ token }) => token],
  [
    '/ai/agents?status=active',
    ({ agents }) => ['local', os.hostname()].every((name) => agents.some((agent) => agent.agent_name === name)),
  ],
  ['/security/audit?limit=5', ({ entries }) => entries.length === 5],
  ['/security/audit?action=', ({ entries }) => entries[0]?.status_code === 201 && entries[0].resource_id],
];

const home = temporaryHome();
/** What the reader's terminal knows by then: the variables and the alias of the tour. */
const terminal: string[] = [];
/** What the reader copies from answers into later commands. */
const copied = new Map<string, string>();
const agents: ChildProcess[] = [];
let nexus: NexusProcess;

beforeAll(async () => {
  nexus = await NexusProcess.start({ home: path.join(home.path, 'nexus'), port: await freePort() });
  copied.set('nexus_api_...', nexus.apiKey as string);
  copied.set('http://localhost:8000', nexus.url);
}, 60_000);

afterAll(async () => {
  for (const agent of agents) {
    if (agent.exitCode !== null) continue;
    // The shell and what it started.
    process.kill(-(agent.pid as number), 'SIGTERM');
    await once(agent, 'exit');
  }
  await nexus?.stop();
  home.remove();
});

function filledIn(command: string): string {
  return [...copied].reduce((text, [placeholder, value]) => text.replaceAll(placeholder, value), command);
}

/** Types the command into a shell; the status of the answer comes on the last line. */
function type(command: string): { status: string; text: string } {
  const input = ['shopt -s expand_aliases', ...terminal, command].join('\n');
  const { stdout, stderr, error } = spawnSync('bash', { input, encoding: 'utf8', timeout: 20_000 });
  if (error) throw error;
  const at = stdout.lastIndexOf('\n');
  expect(stderr).toBe('');
  return { status: stdout.slice(at + 1), text: stdout.slice(0, at) };
}

describe('the tour of the README', () => {
  it('does what its text says, line by line', { timeout: 120_000 }, async () => {
    const open = [...promises];
    for (const line of commands) {
      const command = filledIn(line);
      if (/^(export|alias) /.test(command)) {
        terminal.push(command.replace('curl -s ', `curl -s -w '\\''\\n%{http_code}'\\'' `));
      } else if (command.startsWith('node ')) {
        agents.push(
          spawn('bash', ['-c', command], {
            cwd: ROOT,
            stdio: 'ignore',
            detached: true,
            env: { PATH: process.env.PATH, HOME: home.path },
          }),
        );
      } else {
        const [part, holds] = open.shift() ?? ['a command with a promise in this test', () => false];
        expect(command).toContain(part);
        const ask = (): Answer | undefined => {
          const { status, text } = type(command);
          expect(status, `${command}\n${text}`).toMatch(/^20\d$/);
          const answer = (text.startsWith('{') ? JSON.parse(text) : {}) as Answer;
          return holds(answer, text) ? answer : undefined;
        };
        const isRead = !command.includes('-X POST');
        const answer = isRead ? await eventually(ask, 20_000) : ask();
        expect(answer, command).toBeDefined();
        if (answer?.command_id) copied.set('cmd_...', answer.command_id);
        if (answer?.token) copied.set('nexus_join_...', answer.token);
      }
    }
    expect(open).toEqual([]);
  });
});
