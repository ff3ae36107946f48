import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import WebSocket from 'ws';
import { freePort, NexusProcess, temporaryHome } from '../test/support/nexus-process.js';
import { median, percentile, printTable } from './report.js';

const SUBSCRIBERS = 500;
const RATE = 200;
const SECONDS = 5;
const ROUNDS = 3;
/** Frames sent to everyone in one round, in messages of so many, of which so many are under way. */
const FRAMES = 1000;
const BATCH = 50;
const IN_FLIGHT = 4;
/** Subscribers whose frames are read, to know when each arrived. */
const SAMPLED = 5;

/**
 * 500 subscribers of one process: how long an event takes from its publication to the reader at 200 events a second, and how
 * many frames go out when as many as possible are sent, beside a bare `ws` broadcast of the same frames to the same clients.
 */
export async function run(): Promise<void> {
  const home = temporaryHome();
  const nexus = await NexusProcess.start({
    home: home.path,
    port: await freePort(),
    env: { NEXUS_LOCAL_AGENT: 'false', NEXUS_STREAM_CONNECTIONS: '1000' },
  });
  const raw = fork(fileURLToPath(new URL('./raw-broadcast.js', import.meta.url)));
  const [port] = (await once(raw, 'message')) as [number];
  const sender = new Sender(nexus);
  try {
    const readers = await Readers.ofNexus(nexus);
    const telemetry = await paced(readers, () => sender.telemetry([point(0)]));
    await sender.register();
    const domain = await paced(readers, () => sender.toggle());
    const frames = await captured(readers, sender);
    const own: number[] = [];
    const bare: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      own.push(await capacity(readers, (n) => sender.telemetry(Array.from({ length: n }, (_, i) => point(i)))));
      bare.push(await rawCapacity(port, frames));
    }
    readers.close();
    const ratios = own.map((rate, i) => rate / bare[i]);
    printTable(
      [`${SUBSCRIBERS} subscribers`, 'measured', 'wanted'],
      [
        [`telemetry at ${RATE}/s: request to reader, p50 ms`, median(telemetry.times), '-'],
        ['the same, p99 ms', percentile(telemetry.times, 99), '<= 100'],
        ['the same, frames received of those sent', telemetry.received, '1'],
        [`events of the catalogue at ${RATE}/s: written to reader, p50 ms`, median(domain.times), '-'],
        ['the same, p99 ms', percentile(domain.times, 99), '<= 100'],
        ['the same, frames received of those sent', domain.received, '1'],
        [`frames/s to readers, with ingest (median of ${ROUNDS})`, median(own), '-'],
        ['frames/s of a bare ws broadcast of the same frames', median(bare), '-'],
        ['ratio (median)', median(ratios), '>= 0.5'],
        ['ratios', ratios.map((ratio) => ratio.toFixed(2)).join(' '), '-'],
      ],
    );
  } finally {
    sender.close();
    await ended(raw);
    await nexus.stop();
    home.remove();
  }
}

/** The other side of 500 sockets. All count; a few also note when each event came. */
class Readers {
  count = 0;
  onFrame: ((text: string) => void) | undefined;
  private readonly sockets: WebSocket[] = [];

  static async ofNexus(nexus: NexusProcess): Promise<Readers> {
    const readers = new Readers();
    const headers = { authorization: `Bearer ${nexus.apiKey}` };
    const subscribe = JSON.stringify({ action: 'subscribe', channels: ['telemetry.*', 'agents.status'] });
    for (let i = 0; i < SUBSCRIBERS; i++) {
      const socket = new WebSocket(`${nexus.url.replace('http', 'ws')}/api/v1/stream`, {
        headers,
        perMessageDeflate: false,
      });
      await once(socket, 'message');
      socket.send(subscribe);
      await once(socket, 'message');
      readers.add(socket, i < SAMPLED);
    }
    return readers;
  }

  static async ofRaw(port: number): Promise<Readers> {
    const readers = new Readers();
    for (let i = 0; i < SUBSCRIBERS; i++) {
      const socket = new WebSocket(`ws://127.0.0.1:${port}`, { perMessageDeflate: false });
      await once(socket, 'open');
      readers.add(socket, i < SAMPLED);
    }
    return readers;
  }

  /** Resolves once so many frames have come since the count was set back. */
  async until(count: number): Promise<void> {
    while (this.count < count) {
      if (this.sockets.some(({ readyState }) => readyState !== WebSocket.OPEN)) throw new Error('a reader was closed');
      await delay(1);
    }
  }

  close(): void {
    for (const socket of this.sockets) socket.terminate();
  }

  private add(socket: WebSocket, sampled: boolean): void {
    this.sockets.push(socket);
    socket.on('message', (data: Buffer) => {
      this.count++;
      if (sampled) this.onFrame?.(data.toString());
    });
  }
}

/** Publishes `RATE` times a second and says how long the events took. */
async function paced(readers: Readers, publish: () => Promise<void>): Promise<{ times: number[]; received: number }> {
  const times: number[] = [];
  readers.count = 0;
  readers.onFrame = (text) => {
    const { timestamp } = JSON.parse(text) as { timestamp: string };
    times.push(Math.max(0, Date.now() - Date.parse(timestamp)));
  };
  const total = RATE * SECONDS;
  const start = performance.now();
  const published: Promise<void>[] = [];
  for (let i = 0; i < total; i++) {
    const wait = start + (i * 1000) / RATE - performance.now();
    if (wait > 1) await delay(wait);
    published.push(publish());
  }
  await Promise.all(published);
  const end = performance.now() + 10_000;
  while (readers.count < total * SUBSCRIBERS && performance.now() < end) await delay(5);
  readers.onFrame = undefined;
  return { times, received: readers.count / (total * SUBSCRIBERS) };
}

/** The text of the frames that one round sends. */
async function captured(readers: Readers, sender: Sender): Promise<string[]> {
  const frames: string[] = [];
  readers.onFrame = (text) => frames.push(text);
  readers.count = 0;
  await sender.telemetry(Array.from({ length: BATCH }, (_, i) => point(i)));
  await readers.until(BATCH * SUBSCRIBERS);
  readers.onFrame = undefined;
  return [...new Set(frames)];
}

/** Frames a second that reach the readers when the next events are sent as soon as earlier ones have come. */
async function capacity(readers: Readers, send: (frames: number) => Promise<void>): Promise<number> {
  readers.count = 0;
  const start = performance.now();
  for (let sent = 0; sent < FRAMES; sent += BATCH) {
    await readers.until((sent - (IN_FLIGHT - 1) * BATCH) * SUBSCRIBERS);
    await send(BATCH);
  }
  await readers.until(FRAMES * SUBSCRIBERS);
  return (FRAMES * SUBSCRIBERS) / ((performance.now() - start) / 1000);
}

async function rawCapacity(port: number, frames: string[]): Promise<number> {
  const readers = await Readers.ofRaw(port);
  const control = new WebSocket(`ws://127.0.0.1:${port}`, { perMessageDeflate: false });
  await once(control, 'open');
  const batch = JSON.stringify(frames);
  // Takes the control socket itself out of the broadcast.
  control.send('[]');
  try {
    return await capacity(readers, () => {
      control.send(batch);
      return Promise.resolve();
    });
  } finally {
    readers.close();
    control.terminate();
  }
}

function point(i: number): object {
  return {
    event_type: 'system.metric',
    source: `web-${i % 10}`,
    timestamp: new Date().toISOString(),
    data: { metric_name: 'cpu_usage', value: 45.2 + i, unit: 'percent', tags: { host: 'server-01', region: 'eu' } },
  };
}

/** The way of events into Nexus. */
class Sender {
  private readonly agent = new http.Agent({ keepAlive: true, maxSockets: 16 });
  private agentId = '';
  private toggled = false;
  private last = Promise.resolve();

  constructor(private readonly nexus: NexusProcess) {}

  async register(): Promise<void> {
    const body = { agent_name: 'bench', agent_type: 'host', version: '1.0.0' };
    const { agent_id: id } = (await this.request('POST', '/ai/agents', body)) as { agent_id: string };
    this.agentId = id;
    await delay(200);
  }

  async telemetry(events: object[]): Promise<void> {
    await this.request('POST', '/telemetry/batch', { events });
  }

  /** Each change of the agent's status is an event; one after the other, or two of them would be one. */
  toggle(): Promise<void> {
    this.last = this.last.then(async () => {
      this.toggled = !this.toggled;
      await this.request('PATCH', `/ai/agents/${this.agentId}`, { status: this.toggled ? 'maintenance' : 'active' });
    });
    return this.last;
  }

  close(): void {
    this.agent.destroy();
  }

  private request(method: string, path: string, body: object): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const request = http.request(
        `${this.nexus.url}/api/v1${path}`,
        {
          method,
          agent: this.agent,
          headers: { authorization: `Bearer ${this.nexus.apiKey}`, 'content-type': 'application/json' },
        },
        (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
          response.on('end', () => {
            if ((response.statusCode ?? 500) >= 300) reject(new Error(`${response.statusCode} ${text}`));
            else resolve(JSON.parse(text) as unknown);
          });
          response.on('error', reject);
        },
      );
      request.on('error', reject);
      request.end(JSON.stringify(body));
    });
  }
}

async function ended(child: ChildProcess): Promise<void> {
  child.kill();
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}
