import { once } from 'node:events';
import http from 'node:http';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { Database } from '../../src/platform/database/index.js';
import { InFlight } from '../../src/platform/http/index.js';
import { actor } from '../support/actors.js';
import { eventually } from '../support/eventually.js';
import { bare, type FakeAgent } from '../support/fake-agent.js';
import { Harness } from './harness.js';

const LIMIT = 512 * 1024;
const STREAMS_OF_A_KEY = 20;
let nexus: Harness;
const streams: Stream[] = [];

beforeAll(async () => {
  nexus = await Harness.start({
    NEXUS_COMMAND_OUTPUT_LIMIT: String(LIMIT),
    NEXUS_STREAM_CONNECTIONS: String(STREAMS_OF_A_KEY),
  });
});
afterAll(() => nexus.stop());
afterEach(async () => {
  for (const stream of streams.splice(0)) stream.close();
  await nexus.disconnect();
});

interface Log {
  chunks: { offset: number; length: number; stream: string; encoding: 'utf8' | 'base64'; data: string }[];
  next_offset: number;
  complete: boolean;
}

/** A client of server-sent events. */
class Stream {
  text = '';
  ended = false;
  private constructor(readonly response: http.IncomingMessage) {
    response.setEncoding('utf8').on('data', (part: string) => (this.text += part));
    response.on('close', () => (this.ended = true)).on('error', () => undefined);
  }

  static async open(id: string, options: { key?: string; query?: string; lastEventId?: string } = {}): Promise<Stream> {
    const { key = nexus.admin, query = '', lastEventId } = options;
    const request = http.get(`${nexus.app.url}/api/v1/commands/${id}/logs?follow=true${query}`, {
      headers: { authorization: `Bearer ${key}`, ...(lastEventId ? { 'last-event-id': lastEventId } : {}) },
    });
    request.on('error', () => undefined);
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    const stream = new Stream(response);
    streams.push(stream);
    return stream;
  }

  get events(): { id: string; event: string; data: Record<string, unknown> }[] {
    return this.text
      .split('\n\n')
      .map(
        (block) => Object.fromEntries(block.split('\n').map((line) => line.split(/: (.*)/s))) as Record<string, string>,
      )
      .filter((fields) => fields.event)
      .map((fields) => ({
        id: fields.id,
        event: fields.event,
        data: JSON.parse(fields.data) as Record<string, unknown>,
      }));
  }

  /** What the output events carried, put together. */
  get output(): string {
    return this.events
      .filter(({ event }) => event === 'output')
      .map(({ data }) => Buffer.from(data.data as string, data.encoding as BufferEncoding).toString('latin1'))
      .join('');
  }

  close(): void {
    this.response.destroy();
  }
}

async function log(id: string, query = ''): Promise<Log> {
  return (await nexus.app.call<Log>('GET', `/api/v1/commands/${id}/logs${query}`, { key: nexus.admin })).body;
}

async function running(): Promise<{ fake: FakeAgent; id: string }> {
  const fake = await nexus.agent();
  const id = await nexus.send(fake.agent.id);
  await fake.command(id);
  fake.ack(id);
  fake.start(id);
  return { fake, id };
}

const acked = (fake: FakeAgent, id: string, offset: number) =>
  fake.received('output_ack', (frame) => frame.command_id === bare(id) && frame.next_offset === offset);

describe('output', () => {
  it('is stored byte for byte, once, without gaps, however it is repeated', async () => {
    const { fake, id } = await running();
    const bytes = Buffer.from([0, 255, 10, 13, 0xe2, 0x82, 0xac, 200]);
    fake.output(id, 0, 'first\n');
    fake.output(id, 0, 'first\n');
    fake.output(id, 100, 'a gap');
    fake.output(id, 6, bytes, 'stderr');
    // An overlap: the known part is dropped, the new one kept.
    fake.output(id, 10, Buffer.concat([bytes.subarray(4), Buffer.from('end')]));
    await acked(fake, id, 17);
    fake.result(id, { output_bytes: 17 });
    await nexus.until(id, 'completed');
    const { chunks, next_offset, complete } = await log(id);
    expect(chunks.map((chunk) => [chunk.offset, chunk.stream])).toEqual([
      [0, 'stdout'],
      [6, 'stderr'],
      [14, 'stdout'],
    ]);
    const all = Buffer.concat([Buffer.from('first\n'), bytes, Buffer.from('end')]);
    expect(Buffer.concat(chunks.map((chunk) => Buffer.from(chunk.data, chunk.encoding)))).toEqual(all);
    expect({ next_offset, complete }).toEqual({ next_offset: 17, complete: true });
    for (const after of [0, 3, 6, 11, 17]) {
      const raw = await fetch(`${nexus.app.url}/api/v1/commands/${id}/logs?format=raw&after=${after}`, {
        headers: { authorization: `Bearer ${nexus.admin}` },
      });
      expect(raw.headers.get('x-next-offset')).toBe('17');
      expect(Buffer.from(await raw.arrayBuffer())).toEqual(all.subarray(after));
    }
  });

  it('must be whole before a result counts', async () => {
    const { fake, id } = await running();
    fake.output(id, 0, 'abc');
    fake.result(id, { output_bytes: 6 });
    await acked(fake, id, 3);
    expect((await nexus.get(id)).substatus).toBe('running');
    fake.output(id, 3, 'def');
    const done = await nexus.until(id, 'completed');
    expect(done.result?.output).toBe('abcdef');
    await fake.received('result_ack', (frame) => frame.command_id === bare(id));
  });

  it('beyond the limit is taken and dropped, and the result says so', async () => {
    const { fake, id } = await running();
    const size = 200_000;
    for (let i = 0; i < 4; i++) fake.output(id, i * size, 'x'.repeat(size));
    await acked(fake, id, 4 * size);
    fake.result(id, { output_bytes: 4 * size });
    const done = await nexus.until(id, 'completed');
    expect(done.result?.output_truncated).toBe(true);
    const { chunks, next_offset, complete } = await log(id, `?after=${2 * size}`);
    expect(chunks.map((chunk) => chunk.length)).toEqual([LIMIT - 2 * size]);
    expect({ next_offset, complete }).toEqual({ next_offset: LIMIT, complete: true });
  });

  it('is complete only when its last page was given, wherever the reader begins', async () => {
    const { fake, id } = await running();
    const size = 48 * 1024;
    for (let i = 0; i < 10; i++) fake.output(id, i * size, String(i).repeat(size));
    fake.result(id, { output_bytes: 10 * size });
    await nexus.until(id, 'completed');
    for (const start of [0, 40_000]) {
      let after = start;
      for (let page = await log(id, `?after=${after}`); ; page = await log(id, `?after=${after}`)) {
        after = page.next_offset;
        if (page.complete) break;
      }
      expect(after).toBe(10 * size);
    }
    const stream = await Stream.open(id, { query: '&after=40000' });
    await eventually(() => stream.ended);
    expect(stream.output).toHaveLength(10 * size - 40_000);
  });

  it('refuses queries that make no sense', async () => {
    const { id } = await running();
    for (const query of ['?after=-1', '?after=x', '?follow=maybe', '?format=xml', '?lines=3']) {
      const { status } = await nexus.app.call('GET', `/api/v1/commands/${id}/logs${query}`, { key: nexus.admin });
      expect(status, query).toBe(400);
    }
  });
});

describe('following', () => {
  it('brings output as it comes and closes when the command ends', async () => {
    const { fake, id } = await running();
    fake.output(id, 0, 'before ');
    await acked(fake, id, 7);
    const stream = await Stream.open(id);
    expect(stream.response.headers).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'x-accel-buffering': 'no',
    });
    await eventually(() => stream.output === 'before ');
    fake.output(id, 7, Buffer.from([0xff, 0x00]));
    await eventually(() => stream.output === 'before \xff\x00');
    fake.result(id, { output_bytes: 9 });
    await eventually(() => stream.ended);
    const last = stream.events.at(-1);
    expect(last).toMatchObject({ event: 'complete', id: '9', data: { status: 'completed', next_offset: 9 } });
    expect(stream.events.filter(({ event }) => event === 'complete')).toHaveLength(1);
  });

  it('resumes after the last event seen', async () => {
    const { fake, id } = await running();
    for (let i = 0; i < 10; i++) fake.output(id, i * 3, `${i}${i}\n`);
    await acked(fake, id, 30);
    const first = await Stream.open(id);
    await eventually(() => first.output.length === 30);
    const seen = first.events[4].id;
    first.close();
    fake.output(id, 30, 'last');
    fake.result(id, { output_bytes: 34 });
    const second = await Stream.open(id, { lastEventId: seen });
    await eventually(() => second.ended);
    const whole = '00\n11\n22\n33\n44\n55\n66\n77\n88\n99\nlast';
    expect(second.output).toBe(whole.slice(Number(seen)));
    expect((await Stream.open(id, { lastEventId: 'x' })).response.statusCode).toBe(400);
  });

  it('is cut within two seconds when the reader loses its rights', async () => {
    const { id } = await running();
    const reader = await actor(nexus.app);
    const stream = await Stream.open(id, { key: reader.key });
    expect(stream.response.statusCode).toBe(200);
    const { status } = await nexus.app.call('DELETE', `/api/v1/auth/api-keys/key_${reader.keyId}`, { key: reader.key });
    expect(status).toBe(200);
    await eventually(() => stream.ended, 2000);
    expect(stream.events).toEqual([]);
  });

  it('is cut as soon when the reader takes nothing', async () => {
    const { id } = await running();
    // More than the buffers between server and reader hold.
    await nexus.app.db.query(
      `INSERT INTO command_output (command_id, "offset", stream, data)
       SELECT $1, n * 65536, 'stdout', decode(repeat('61', 65536), 'hex') FROM generate_series(0, 511) AS n`,
      [bare(id)],
    );
    const reader = await actor(nexus.app);
    const stream = await Stream.open(id, { key: reader.key });
    stream.response.pause();
    const { status } = await nexus.app.call('DELETE', `/api/v1/auth/api-keys/key_${reader.keyId}`, { key: reader.key });
    expect(status).toBe(200);
    await eventually(() => nexus.app.get(InFlight).size === 0, 2000);
    stream.response.resume();
    await eventually(() => stream.ended);
    expect(stream.text.length).toBeLessThan(512 * 65_536);
  });

  it('takes one of the streams that a key may hold open', async () => {
    const { id } = await running();
    const { key } = await actor(nexus.app);
    const follow = async (): Promise<number | undefined> => (await Stream.open(id, { key })).response.statusCode;
    for (let n = 1; n < STREAMS_OF_A_KEY; n++) expect(await follow()).toBe(200);
    const events = await fetch(`${nexus.app.url}/api/v1/events/stream`, {
      headers: { authorization: `Bearer ${key}` },
    });
    expect(events.status).toBe(200);
    expect(await follow()).toBe(429);
    expect((await Stream.open(id)).response.statusCode).toBe(200);
    await events.body?.cancel();
    await eventually(async () => (await follow()) === 200);
  });

  it('reads each new output once for all who follow it', async () => {
    const { fake, id } = await running();
    const { key } = await actor(nexus.app);
    const followers: Stream[] = [];
    for (let n = 0; n < STREAMS_OF_A_KEY; n++) followers.push(await Stream.open(id, { key }));
    const query = vi.spyOn(nexus.app.get(Database), 'query');
    fake.output(id, 0, 'for all');
    await eventually(() => followers.every(({ output }) => output === 'for all'));
    const reads = query.mock.calls.filter(([sql]) => sql.includes('FROM command_output'));
    query.mockRestore();
    expect(reads.length).toBeLessThan(STREAMS_OF_A_KEY / 2);
  });

  it('gives an ordinary refusal for what is not there', async () => {
    const stream = await Stream.open('cmd_00000000-0000-4000-8000-000000000000');
    expect(stream.response.statusCode).toBe(404);
    expect(stream.response.headers['content-type']).toContain('application/json');
  });
});
