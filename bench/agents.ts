import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { LINK_PATH, LINK_SUBPROTOCOL, PROTOCOL_VERSION, type AgentFrame } from '@nexus/agent/protocol';
import WebSocket from 'ws';
import { freePort, NexusProcess, temporaryHome } from '../test/support/nexus-process.js';
import { percentile, printTable } from './report.js';

const AGENTS = 500;
const MEASURE_SECONDS = 30;
const HEARTBEAT_MS = 15_000;

/** What it costs one process to hold 500 connected agents: time to connect, memory, processor time of their heartbeats. */
export async function run(): Promise<void> {
  const home = temporaryHome();
  const nexus = await NexusProcess.start({
    home: home.path,
    port: await freePort(),
    env: { NEXUS_LOCAL_AGENT: 'false' },
  });
  const pid = nexus.child.pid as number;
  try {
    const keys: string[] = [];
    for (let i = 0; i < AGENTS; i++) keys.push(await register(nexus, i));
    await idle(5);
    const memoryBefore = residentMegabytes(pid);
    const cpuIdle = await cpuShare(pid, 10);

    const times: number[] = [];
    const start = performance.now();
    const sockets = await Promise.all(
      keys.map(async (key) => {
        const socket = await connect(nexus.url, key);
        times.push(performance.now() - start);
        return socket;
      }),
    );
    const connected = performance.now() - start;
    const beats = sockets.map((socket) => beat(socket));
    const cpu = await cpuShare(pid, MEASURE_SECONDS);
    const memory = residentMegabytes(pid);
    const online = await count(nexus, 'active');

    beats.forEach(clearInterval);
    for (const socket of sockets) socket.terminate();
    const left = performance.now();
    while ((await count(nexus, 'offline')) < AGENTS) await new Promise((resolve) => setTimeout(resolve, 5));
    printTable(
      ['figure', 'measured'],
      [
        [`agents shown active, of ${AGENTS}`, online],
        ['all connected at once and welcomed after, ms', connected],
        ['half of them after, ms', percentile(times, 50)],
        ['resident memory for them, MB', memory - memoryBefore],
        [`processor with their heartbeats every ${HEARTBEAT_MS / 1000} s, % of one core`, cpu],
        ['processor without agents, % of one core', cpuIdle],
        ['all sockets lost at once, all shown offline after, ms', performance.now() - left],
      ],
    );
  } finally {
    await nexus.stop();
    home.remove();
  }
}

async function register(nexus: NexusProcess, number: number): Promise<string> {
  const response = await fetch(`${nexus.url}/api/v1/ai/agents`, {
    method: 'POST',
    headers: { authorization: `Bearer ${nexus.apiKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ agent_name: `bench-${number}`, agent_type: 'host', version: '1.0.0' }),
  });
  return ((await response.json()) as { api_key: string }).api_key;
}

async function connect(url: string, key: string): Promise<WebSocket> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/api/v1/${LINK_PATH}`, LINK_SUBPROTOCOL, {
    headers: { authorization: `Bearer ${key}` },
    perMessageDeflate: false,
  });
  await once(socket, 'open');
  const hello: AgentFrame = {
    type: 'hello',
    protocol: PROTOCOL_VERSION,
    agent_version: '1.0.0',
    boot_id: key.slice(-8),
    hostname: 'bench',
    platform: 'linux x64',
    labels: {},
    capabilities: ['metrics'],
    commands: [{ type: 'system.ping' }],
    unfinished: [],
  };
  socket.send(JSON.stringify(hello));
  await once(socket, 'message');
  return socket;
}

/** Heartbeats spread over the interval, as those of agents that started at different times. */
function beat(socket: WebSocket): NodeJS.Timeout {
  const frame: AgentFrame = { type: 'heartbeat', load_percent: 10, running: 0, spooled_batches: 0 };
  const every = HEARTBEAT_MS * (0.9 + Math.random() * 0.2);
  return setInterval(() => socket.send(JSON.stringify(frame)), every);
}

async function count(nexus: NexusProcess, status: string): Promise<number> {
  const response = await fetch(`${nexus.url}/api/v1/ai/agents?status=${status}&limit=1`, {
    headers: { authorization: `Bearer ${nexus.apiKey}` },
  });
  return ((await response.json()) as { pagination: { total: number } }).pagination.total;
}

/** Processor time of a process over some seconds, in percent of one core. */
async function cpuShare(pid: number, seconds: number): Promise<number> {
  const before = ticks(pid);
  await idle(seconds);
  // 100 ticks a second on Linux.
  return (ticks(pid) - before) / seconds;
}

function ticks(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

function residentMegabytes(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}

function idle(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
