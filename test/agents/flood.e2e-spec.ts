import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { AgentFrame } from '@nexus/agent/protocol';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { eventually } from '../support/eventually.js';
import { freePort, NexusProcess, temporaryHome } from '../support/nexus-process.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { execute } from '../platform/harness.js';
import { LinkClient } from './link-client.js';

const MB = 1024 * 1024;
const FRAME_BYTES = 200_000;
const WARM_UP = 300;

const home = temporaryHome();
let database: TestDatabase;
let nexus: NexusProcess;

beforeAll(async () => {
  database = await createTestDatabase();
  const env = { DATABASE_URL: database.url, NEXUS_COMMAND_OUTPUT_LIMIT: String(256 * MB) };
  nexus = await NexusProcess.start({ home: home.path, port: await freePort(), env });
});
afterAll(async () => {
  await nexus?.stop();
  await database?.drop();
  home.remove();
});

async function post(target: string, body: object): Promise<Record<string, string>> {
  const response = await fetch(`${nexus.url}/api/v1${target}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${nexus.apiKey}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  expect(response.status).toBe(201);
  return (await response.json()) as Record<string, string>;
}

async function connect(name: string): Promise<{ agentId: string; link: LinkClient }> {
  const { agent_id: agentId, api_key: key } = await post('/ai/agents', {
    agent_name: name,
    agent_type: 'host',
    version: '1.0.0',
    capabilities: [],
  });
  return { agentId, link: await LinkClient.welcomed(nexus.url, key) };
}

/** Resident memory of the server process, in bytes. */
function residentBytes(): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${nexus.child.pid}/status`, 'utf8'))?.[1]) * 1024;
}

/** Sends as fast as the connection takes it. */
async function send(link: LinkClient, count: number, frameOf: (n: number) => AgentFrame): Promise<void> {
  for (let n = 0; n < count; n++) {
    const text = JSON.stringify(frameOf(n));
    if (link.ws.bufferedAmount < 4 * MB) link.ws.send(text);
    else await new Promise((resolve) => link.ws.send(text, resolve));
  }
}

it.skipIf(process.platform !== 'linux')(
  'an agent that floods its link fills no memory, loses nothing and keeps no other agent waiting',
  { timeout: 180_000 },
  async () => {
    const [noisy, quiet] = [await connect('noisy'), await connect('quiet')];
    const { command_id: publicId } = await post('/commands', { command_type: 'system.ping', target: noisy.agentId });
    const id = publicId.slice('cmd_'.length);
    await noisy.link.received('command');
    const output = (n: number): AgentFrame => ({
      type: 'command_output',
      command_id: id,
      stream: 'stdout',
      offset: n * FRAME_BYTES,
      encoding: 'utf8',
      data: 'x'.repeat(FRAME_BYTES),
    });
    const result = (total: number): AgentFrame => ({
      type: 'command_result',
      command_id: id,
      status: 'completed',
      message: 'done',
      exit_code: 0,
      signal: null,
      started_at: new Date().toISOString(),
      completed_at: new Date().toISOString(),
      duration_ms: 1,
      output_bytes: total,
      output_truncated: false,
      data: { text: 'x'.repeat(FRAME_BYTES) },
    });
    noisy.link.send({ type: 'command_ack', command_id: id });
    const acknowledged = (bytes: number) =>
      eventually(
        () => noisy.link.frames.some((frame) => frame.type === 'output_ack' && frame.next_offset === bytes),
        60_000,
      );
    // The heap of a process that has just started grows with its first frames, whoever sends them.
    await send(noisy.link, WARM_UP, output);
    await acknowledged(WARM_UP * FRAME_BYTES);

    const before = residentBytes();
    let peak = before;
    let longest = 0;
    let flooding = true;
    const watching = (async () => {
      for (; flooding; await delay(20)) peak = Math.max(peak, residentBytes());
    })();
    const beside = (async () => {
      while (flooding) {
        const batch = randomUUID();
        const sentAt = performance.now();
        const event = {
          event_id: randomUUID(),
          event_type: 'metric',
          source: 'quiet',
          timestamp: new Date(),
          data: {},
        };
        quiet.link.send({ type: 'telemetry', batch_id: batch, events: [event] });
        await eventually(
          () => quiet.link.frames.some((frame) => frame.type === 'telemetry_ack' && frame.batch_id === batch),
          30_000,
        );
        longest = Math.max(longest, performance.now() - sentAt);
      }
    })();
    const [outputs, results] = [300, 700];
    const total = outputs * FRAME_BYTES;
    await send(noisy.link, outputs - WARM_UP, (n) => output(n + WARM_UP));
    await send(noisy.link, results, () => result(total));
    const resultAcks = () => noisy.link.frames.filter((frame) => frame.type === 'result_ack').length;
    await eventually(() => resultAcks() === results, 120_000);
    flooding = false;
    await Promise.all([watching, beside]);

    expect(peak - before).toBeLessThanOrEqual(64 * MB);
    expect(longest).toBeLessThan(5000);
    expect(noisy.link.closeCode).toBeUndefined();
    expect(
      await execute(
        database.url,
        `SELECT status, output_bytes::int AS bytes, (SELECT sum(length(data))::int FROM command_output) AS stored FROM commands`,
      ),
    ).toEqual([{ status: 'completed', bytes: total, stored: total }]);
    noisy.link.close();
    quiet.link.close();
  },
);
