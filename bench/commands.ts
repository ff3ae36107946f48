import http from 'node:http';
import WebSocket from 'ws';
import { postgresBackend } from '../src/platform/jobs/queue-backend.js';
import { freePort, NexusProcess, temporaryHome } from '../test/support/nexus-process.js';
import { embeddedUrl } from './embedded-url.js';
import { median, percentile, printTable } from './report.js';

const WARM_UP = 200;
const ALONE = 300;
const MANY = 3000;
const IN_FLIGHT = 16;
const BARE_JOBS = 3000;

/**
 * From the request to the end of a command on the real local agent: alone, seen by the client that follows its log, and with many
 * in flight, whose client follows each, or hears of all on one stream. Beside it the rate of bare no-op BullMQ jobs on the same
 * database, on this machine, in the same run.
 */
export async function run(): Promise<void> {
  const home = temporaryHome();
  const nexus = await NexusProcess.start({ home: home.path, port: await freePort() });
  const client = new Client(nexus.url, nexus.apiKey as string);
  try {
    await client.waitForAgent();
    await client.listen();
    await client.runMany(WARM_UP, IN_FLIGHT, 'follow');
    await client.runMany(WARM_UP, IN_FLIGHT, 'stream');
    const alone = await client.runMany(ALONE, 1, 'follow');
    const followed = await client.runMany(MANY, IN_FLIGHT, 'follow');
    const heard = await client.runMany(MANY, IN_FLIGHT, 'stream');
    const bare = await bareJobs(embeddedUrl(home.path));
    printTable(
      ['figure', 'measured', 'wanted'],
      [
        ['create to completed, one at a time, p50 ms', median(alone.times), '<= 20'],
        ['the same, p95 ms', percentile(alone.times, 95), '-'],
        ['the same, p99 ms', percentile(alone.times, 99), '-'],
        ...manyRows('each followed', followed),
        ...manyRows('heard of on one stream', heard),
        ['bare BullMQ no-op jobs per second (add one by one, process)', bare, '-'],
        ['commands per bare job', heard.rate / bare, '-'],
      ],
    );
  } finally {
    client.close();
    await nexus.stop();
    home.remove();
  }
}

/** How a client learns of the end: the log of each command as server-sent events, or `commands.status` on one WebSocket. */
type Way = 'follow' | 'stream';

interface Runs {
  times: number[];
  rate: number;
}

function manyRows(how: string, { times, rate }: Runs): [string, number, string][] {
  return [
    [`create to completed, ${IN_FLIGHT} in flight, ${how}, p50 ms`, median(times), '-'],
    ['the same, p95 ms', percentile(times, 95), '-'],
    ['the same, p99 ms', percentile(times, 99), '-'],
    [`commands per second, ${IN_FLIGHT} in flight, ${how}`, rate, '>= 200'],
  ];
}

class Client {
  private readonly agent = new http.Agent({ keepAlive: true, maxSockets: 2 * IN_FLIGHT });
  private socket: WebSocket | undefined;
  /** Ends that came before the answer to the request. */
  private readonly ended = new Map<string, string>();
  private readonly waiting = new Map<string, (event: string) => void>();

  constructor(
    private readonly url: string,
    private readonly key: string,
  ) {}

  close(): void {
    this.agent.destroy();
    this.socket?.close();
  }

  /** Opens the stream that all commands are heard on. */
  async listen(): Promise<void> {
    const socket = new WebSocket(`${this.url.replace('http', 'ws')}/api/v1/stream`, {
      headers: { authorization: `Bearer ${this.key}` },
    });
    this.socket = socket;
    await new Promise<void>((resolve, reject) => {
      socket.on('error', reject);
      socket.on('open', () => socket.send(JSON.stringify({ action: 'subscribe', channels: ['commands.status'] })));
      socket.on('message', (text: Buffer) => {
        const message = JSON.parse(text.toString()) as StreamMessage;
        if (message.type === 'subscription_confirmed') resolve();
        if (message.type !== 'event' || message.data.status === 'queued' || message.data.status === 'running') return;
        const tell = this.waiting.get(message.data.command_id);
        if (tell) tell(message.event_type);
        else this.ended.set(message.data.command_id, message.event_type);
      });
    });
  }

  async waitForAgent(): Promise<void> {
    for (;;) {
      const { status } = await this.request('POST', '/commands', { command_type: 'system.ping', target: 'local' });
      if (status === 201) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** Runs `count` commands with `inFlight` of them unfinished at any time. */
  async runMany(count: number, inFlight: number, way: Way): Promise<Runs> {
    const times: number[] = [];
    let started = 0;
    const start = performance.now();
    const worker = async (): Promise<void> => {
      while (started++ < count) times.push(await this.runOne(way));
    };
    await Promise.all(Array.from({ length: inFlight }, worker));
    return { times, rate: times.length / ((performance.now() - start) / 1000) };
  }

  private async runOne(way: Way): Promise<number> {
    const start = performance.now();
    const created = await this.request('POST', '/commands', { command_type: 'system.ping', target: 'local' });
    const { command_id: id } = JSON.parse(created.text) as { command_id: string };
    const end = way === 'follow' ? await this.follow(id) : await this.hear(id);
    if (end !== 'completed') throw new Error(`the command did not complete: ${end}`);
    return performance.now() - start;
  }

  private async follow(id: string): Promise<string> {
    // The answer ends when the command has ended.
    const { text } = await this.request('GET', `/commands/${id}/logs?follow=true`);
    return /"substatus":"(\w+)"/.exec(text)?.[1] ?? text;
  }

  private async hear(id: string): Promise<string> {
    const event = this.ended.get(id) ?? (await new Promise<string>((resolve) => this.waiting.set(id, resolve)));
    this.ended.delete(id);
    this.waiting.delete(id);
    return event.replace('command.', '');
  }

  private request(method: string, path: string, body?: object): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const request = http.request(
        `${this.url}/api/v1${path}`,
        {
          method,
          agent: this.agent,
          headers: { authorization: `Bearer ${this.key}`, ...(body ? { 'content-type': 'application/json' } : {}) },
        },
        (response) => {
          let text = '';
          response.setEncoding('utf8');
          response.on('data', (chunk: string) => (text += chunk));
          response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
          response.on('error', reject);
        },
      );
      request.on('error', reject);
      request.end(body && JSON.stringify(body));
    });
  }
}

interface StreamMessage {
  type: string;
  event_type: string;
  data: { command_id: string; status: string };
}

/** Jobs per second that BullMQ alone carries, added by as many producers as there are commands in flight. */
async function bareJobs(url: string): Promise<number> {
  const backend = await postgresBackend(url);
  const queue = backend.queue('bench', {});
  let done = 0;
  const finished = new Promise<void>((resolve) => {
    const worker = backend.worker(
      'bench',
      () => {
        if (++done === BARE_JOBS) setTimeout(() => void worker.close().then(() => resolve()), 0);
        return Promise.resolve();
      },
      { concurrency: IN_FLIGHT },
    );
    worker.on('error', () => undefined);
  });
  const start = performance.now();
  let added = 0;
  const producer = async (): Promise<void> => {
    while (added++ < BARE_JOBS) await queue.add('noop', {}, { removeOnComplete: true });
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, producer));
  while (done < BARE_JOBS) await new Promise((resolve) => setTimeout(resolve, 2));
  const seconds = (performance.now() - start) / 1000;
  await finished;
  await queue.close();
  await backend.close();
  return BARE_JOBS / seconds;
}
