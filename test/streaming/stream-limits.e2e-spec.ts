import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { actor } from '../support/actors.js';
import { eventually, startTestApp, type TestApp } from '../support/app.js';
import { agentEvents, commandEvent, type Message, metric, STREAM, StreamReader, telemetry } from './stream-client.js';

const SENT = /^nexus_stream_events_sent_total (\d+)$/m;

let here: TestApp;
let there: TestApp;
let key: string;
beforeAll(async () => {
  here = await startTestApp();
  there = await startTestApp({ DATABASE_URL: here.db.url });
  ({ key } = await actor(here));
});
afterAll(async () => {
  await there.stop();
  await here.stop();
});

/** Events of some 50 kB, no faster than a brisk reader takes them, until those that take none are cut. */
async function flood(brisk: StreamReader, until: () => Promise<boolean>): Promise<void> {
  const text = 'x'.repeat(50_000);
  let sent = brisk.events.length;
  await eventually(async () => {
    if (await until()) return true;
    const batch = Array.from({ length: 10 }, () => metric({ data: { text } }));
    await telemetry(here, key, batch);
    sent += batch.length;
    await eventually(() => brisk.closed ?? brisk.events.length >= sent);
    return false;
  }, 45_000);
}

/** Other processes post telemetry to one only from when they have heard of its readers. */
async function heardFrom(app: TestApp, reader: StreamReader): Promise<void> {
  await eventually(async () => {
    await telemetry(app, key, [metric({ source: 'probe' })]);
    return reader.events.some(({ data }) => data?.source === 'probe');
  });
}

describe('several processes', () => {
  it('show their readers the same events, whoever wrote them, and telemetry of any size', async () => {
    const wish = { channels: ['agents.status', 'telemetry.*'] };
    const readers = [await StreamReader.open(here.url, key, wish), await StreamReader.open(there.url, key, wish)];
    await Promise.all([heardFrom(here, readers[1]), heardFrom(there, readers[0])]);
    const eventsOf = (reader: StreamReader): Message[] => reader.events.filter(({ data }) => data?.source !== 'probe');
    const text = 'ü'.repeat(20_000);
    await Promise.all([
      agentEvents(here, 0, 20),
      agentEvents(there, 100, 120),
      telemetry(here, key, [...Array.from({ length: 100 }, (_, i) => metric({}, i)), metric({ data: { text } })]),
      telemetry(there, key, [metric({ source: 'there' })]),
    ]);
    // 20 and 20 of agents, 101 and 1 of telemetry.
    await eventually(() => readers.every((reader) => eventsOf(reader).length === 142));
    // In a subscription over both, `id` is a place of one process.
    const ids = readers.map((reader) =>
      eventsOf(reader)
        .map(({ event_id, data }) => event_id ?? data?.event_id)
        .sort(),
    );
    expect(new Set(ids[0]).size).toBe(142);
    expect(ids[1]).toEqual(ids[0]);
    const placed = readers.map(({ events }) => events.filter(({ seq }) => seq).map(({ event_id }) => event_id));
    expect(placed[1]).toEqual(placed[0]);
    const big = readers[1].events.find(({ data }) => (data?.data as { text?: string } | undefined)?.text)?.data?.data;
    expect(big).toEqual({ text });
    await Promise.all(readers.map((reader) => reader.close()));
  });

  it('resume on the other one without gap or double', async () => {
    const wish = { channels: ['agents.status'] };
    const reader = await StreamReader.open(here.url, key, wish);
    await agentEvents(here, 0, 5);
    await eventually(() => reader.events.length === 5);
    await reader.close();
    const other = await StreamReader.open(there.url, key, { ...wish, since: reader.events[1].id });
    await agentEvents(here, 5, 8);
    await eventually(() => other.events.length === 6);
    expect(other.numbers).toEqual([2, 3, 4, 5, 6, 7]);
    await other.close();
  });

  it('cut the sockets of a revoked key within two seconds, and of a changed user', async () => {
    const victim = await actor(here);
    const readers = await Promise.all([here, there].map(({ url }) => StreamReader.open(url, victim.key)));
    await here.call('DELETE', `/api/v1/auth/api-keys/key_${victim.keyId}`, { key });
    await eventually(() => readers.every(({ closed }) => closed), 2000);
    expect(readers.map(({ closed }) => closed?.code)).toEqual([1008, 1008]);
  });
});

describe('a client that never reads', () => {
  it('is closed, costs a bounded buffer, and the others get everything', { timeout: 60_000 }, async () => {
    const lazy = await StreamReader.open(here.url, key, { channels: ['telemetry.*'] });
    lazy.ws.pause();
    const lazyEvents = http.get(`${here.url}/api/v1/events/stream?channels=telemetry.*`, {
      headers: { authorization: `Bearer ${key}` },
    });
    const [response] = (await once(lazyEvents, 'response')) as [http.IncomingMessage];
    lazyEvents.on('error', () => undefined);
    response.on('error', () => undefined);
    const brisk = await StreamReader.open(here.url, key, { channels: ['telemetry.*'] });
    const clients = async (): Promise<string> =>
      (await (await fetch(`${here.url}/metrics`)).text())
        .split('\n')
        .filter((line) => line.startsWith('nexus_stream_clients'))
        .join();
    await eventually(async () => /websocket"} 2.*sse"} 1/.test(await clients()));
    await flood(brisk, async () => /websocket"} 1.*sse"} 0/.test(await clients()));
    expect(brisk.closed).toBeUndefined();
    const got = brisk.events.length;
    await telemetry(here, key, [metric()]);
    await eventually(() => brisk.events.length > got);
    lazy.ws.resume();
    await lazy.end();
    response.destroy();
    await brisk.close();
  });

  it('for a while is waited for when it comes back, however large what it missed', { timeout: 120_000 }, async () => {
    const text = 'x'.repeat(60_000);
    const total = 300;
    const emit = async (n: number): Promise<void> => {
      const body = { type: 'large.made', data: { n, text } };
      expect((await here.call('POST', '/api/v1/events', { key, body })).status).toBe(201);
    };
    const first = await StreamReader.open(here.url, key, { patterns: ['large.*'] });
    await emit(0);
    const { id: since } = await first.next('event');
    await first.close();
    for (let n = 1; n <= total; n += 20) await Promise.all(Array.from({ length: 20 }, (_, i) => emit(n + i)));
    const back = await StreamReader.open(here.url, key);
    const sent = async (): Promise<number> => Number(SENT.exec(await (await fetch(`${here.url}/metrics`)).text())?.[1]);
    const before = await sent();
    back.say({ action: 'subscribe', patterns: ['large.*'], since });
    // More than all the buffers in between can hold: it is closed, or waited for.
    back.ws.pause();
    await eventually(async () => (await sent()) > before);
    back.ws.resume();
    await eventually(() => back.closed ?? back.events.length >= total, 30_000);
    expect(back.closed).toBeUndefined();
    const numbers = back.events.map(({ data }) => Number(data?.n)).sort((a, b) => a - b);
    expect(numbers).toEqual(Array.from({ length: total }, (_, i) => i + 1));
    await back.close();
  });

  it('that asks for a long replay is sent no more than it takes', { timeout: 60_000 }, async () => {
    await agentEvents(here, 0, 4000, { together: true });
    const socket = net.connect(Number(new URL(here.url).port), '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write(
      `GET ${STREAM} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n` +
        `Sec-WebSocket-Key: ${Buffer.alloc(16).toString('base64')}\r\nAuthorization: Bearer ${key}\r\n\r\n`,
    );
    await once(socket, 'data');
    socket.pause();
    const json = Buffer.from(JSON.stringify({ action: 'subscribe', channels: ['agents.status'], since: '0' }));
    socket.write(Buffer.concat([Buffer.from([0x81, 0x80 | json.length, 0, 0, 0, 0]), json]));
    // The rest is read slowly and still arrives whole: the replay waits for its reader.
    let received = 0;
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text = text.slice(-100) + chunk.toString('latin1');
      received += (text.match(/"agent_name":"n3999"/g) ?? []).length;
    });
    socket.resume();
    await eventually(() => received > 0, 20_000);
    socket.destroy();
  });
});

describe('a server that stops', () => {
  it('closes its sockets with 1001 and says when to come back', async () => {
    const own = await startTestApp();
    const one = await actor(own);
    const reader = await StreamReader.open(own.url, one.key, { channels: ['commands.status'] });
    await commandEvent(own);
    await eventually(() => reader.events.length === 1);
    await own.stop();
    const { code, reason } = await reader.end();
    expect(code).toBe(1001);
    const { retry_after_ms: after } = await reader.next('draining');
    expect(reason).toContain(String(after));
    expect(Number(after)).toBeGreaterThan(0);
  });
});
