import { randomUUID } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { currentContext } from '../../src/platform/context/index.js';
import { type TelemetryRow, TelemetryIngest } from '../../src/telemetry/index.js';
import { actor } from '../support/actors.js';
import { startTestApp, type TestApp } from '../support/app.js';

const EVENTS = '/api/v1/telemetry/events';
const BATCH = '/api/v1/telemetry/batch';

interface Batch {
  batch_id: string;
  status: string;
  accepted_count: number;
  rejected_count: number;
  duplicate_count: number;
  errors: { index: number; field: string; issue: string }[];
  warnings?: { index: number; field: string }[];
}
interface Refusal {
  error: { code: string; details: { field: string; issue: string }[] };
}

let app: TestApp;
let key: string;
let keyName: string;

beforeAll(async () => {
  app = await startTestApp();
  ({ key } = await actor(app));
  const [{ name }] = await app.db.query<{ name: string }>(`SELECT name FROM credentials WHERE name = 'test'`);
  keyName = name;
});
afterAll(() => app.stop());

const metric = (over: Record<string, unknown> = {}): Record<string, unknown> => ({
  event_type: 'system.metric',
  source: 'web-1',
  timestamp: new Date().toISOString(),
  data: { metric_name: 'cpu_usage', value: 45.2, unit: 'percent', tags: { host: 'server-01' } },
  metadata: { version: '1.0.0', schema: 'metric_v1' },
  ...over,
});
const post = <B>(path: string, body: unknown, headers: Record<string, string> = {}) =>
  app.call<B>('POST', path, { key, body, headers });
const stored = async (): Promise<number> =>
  (await app.db.query<{ n: number }>(`SELECT count(*)::int AS n FROM telemetry_events`))[0].n;

describe('who listens to what was stored', () => {
  it('hears of each event once, also of those that an idempotent request stored', async () => {
    const heard: TelemetryRow[] = [];
    app.get(TelemetryIngest).onFlushed((rows) => heard.push(...rows));
    const known = metric({ event_id: randomUUID() });
    await post(EVENTS, known);
    await post(BATCH, { events: [known, metric({ source: 'web-2' }), { event_type: 'bad' }] });
    await post(EVENTS, metric({ source: 'web-3' }), { 'idempotency-key': randomUUID() });
    expect(heard.map(({ source }) => source)).toEqual(['web-1', 'web-2', 'web-3']);
  });
});

describe('the transaction of several requests', () => {
  it('is part of none of them, and so outlives the time of each', async () => {
    const contexts: unknown[] = [];
    app.get(TelemetryIngest).onFlushed(() => contexts.push(currentContext()));
    await Promise.all(Array.from({ length: 50 }, () => post(EVENTS, metric())));
    expect(contexts.length).toBeGreaterThan(0);
    expect(contexts.every((context) => context === undefined)).toBe(true);
  });
});

describe('submitting one event', () => {
  it('answers 201 once it is stored and gives it back as it was sent', async () => {
    const event = metric();
    const created = await post<{ event_id: string; status: string; timestamp: string }>(EVENTS, event);
    expect(created.status).toBe(201);
    expect(created.body).toMatchObject({ status: 'accepted' });
    expect(created.body.event_id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(created.body.timestamp).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    const found = await app.call('GET', `${EVENTS}/${created.body.event_id}`, { key });
    expect(found.status).toBe(200);
    expect(found.body).toEqual({
      ...event,
      event_id: created.body.event_id,
      received_at: created.body.timestamp,
    });
  });

  it('takes the time of receipt and the name of the key when they are left out', async () => {
    const before = Date.now();
    const created = await post<{ event_id: string }>(EVENTS, { event_type: 'deployment.complete', data: { build: 7 } });
    expect(created.status).toBe(201);
    const { body } = await app.call<Record<string, string>>('GET', `${EVENTS}/${created.body.event_id}`, { key });
    expect(body).toMatchObject({ source: keyName, data: { build: 7 }, metadata: null });
    expect(Date.parse(body.timestamp)).toBeGreaterThanOrEqual(before);
    expect(Date.parse(body.timestamp)).toBeLessThanOrEqual(Date.now());
  });

  it('answers 200 to a resend of the same id and time and stores it once', async () => {
    const event = metric({ event_id: randomUUID(), source: 'resender' });
    const answers = await Promise.all(Array.from({ length: 8 }, () => post<{ event_id: string }>(EVENTS, event)));
    answers.push(await post<{ event_id: string }>(EVENTS, event));
    expect(answers.map((a) => a.status).sort()).toEqual([200, 200, 200, 200, 200, 200, 200, 200, 201]);
    expect(answers.every((a) => a.body.event_id === event.event_id)).toBe(true);
    const list = await app.call<{ events: unknown[] }>('GET', `${EVENTS}?source=resender`, { key });
    expect(list.body.events).toHaveLength(1);
  });

  it('goes through the ordinary way with the same answer when the body is compressed', async () => {
    const response = await fetch(app.url + EVENTS, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', 'content-encoding': 'gzip' },
      body: gzipSync(JSON.stringify(metric())),
    });
    expect(response.status).toBe(201);
    expect(await response.json()).toMatchObject({ status: 'accepted' });
    const empty = await app.call<Refusal>('POST', EVENTS, { key, headers: { origin: 'http://localhost' } });
    expect(empty.status).toBe(400);
    expect(empty.body.error.details.map((d) => d.field)).toEqual(['event_type', 'data']);
  });

  it('keeps times of another zone and days far apart', async () => {
    const day = 86_400_000;
    for (const age of [0, 3, 11, 29]) {
      const time = new Date(Date.now() - age * day);
      const created = await post<{ event_id: string }>(
        EVENTS,
        metric({ timestamp: time.toISOString().replace('Z', '+00:00') }),
      );
      expect(created.status).toBe(201);
      const { body } = await app.call('GET', `${EVENTS}/${created.body.event_id}`, { key });
      expect(body.timestamp).toBe(time.toISOString());
    }
  });

  const ahead = (ms: number): string => new Date(Date.now() + ms).toISOString();
  const bad: [string, unknown, string][] = [
    ['no type', metric({ event_type: undefined }), 'event_type'],
    ['an empty type', metric({ event_type: '' }), 'event_type'],
    ['a type with a space', metric({ event_type: 'a b' }), 'event_type'],
    ['a type of 101 characters', metric({ event_type: 'x'.repeat(101) }), 'event_type'],
    ['a number as type', metric({ event_type: 5 }), 'event_type'],
    ['an empty source', metric({ source: '' }), 'source'],
    ['null as source', metric({ source: null }), 'source'],
    ['a source of 101 characters', metric({ source: 'x'.repeat(101) }), 'source'],
    ['no data', metric({ data: undefined }), 'data'],
    ['an array as data', metric({ data: [] }), 'data'],
    ['a text as metadata', metric({ metadata: 'v1' }), 'metadata'],
    ['a date without a time zone', metric({ timestamp: '2025-11-03T01:54:00' }), 'timestamp'],
    ['a number as timestamp', metric({ timestamp: 1762134840 }), 'timestamp'],
    ['the 30th of February', metric({ timestamp: '2026-02-30T00:00:00Z' }), 'timestamp'],
    ['a timestamp in six minutes', metric({ timestamp: ahead(360_000) }), 'timestamp'],
    ['a timestamp of before 1970', metric({ timestamp: '1969-12-31T23:59:59.999Z' }), 'timestamp'],
    ['an id that is none', metric({ event_id: 'evt-1' }), 'event_id'],
    ['an id without a timestamp', metric({ event_id: randomUUID(), timestamp: undefined }), 'timestamp'],
    ['an unknown field', metric({ color: 'red' }), 'color'],
    ['a list as value', metric({ data: { metric_name: 'x', value: [1] } }), 'data.value'],
    ['a value no sum can hold', metric({ data: { metric_name: 'x', value: 1e308 } }), 'data.value'],
    ['2^63', `{"event_type":"a","data":{"metric_name":"x","value":9223372036854775808}}`, 'data.value'],
    ['1e400', `{"event_type":"a","data":{"metric_name":"x","value":1e400}}`, 'data.value'],
    ['a long metric name', metric({ data: { metric_name: 'x'.repeat(201), value: 1 } }), 'data.metric_name'],
    ['a long unit', metric({ data: { metric_name: 'x', value: 1, unit: 'x'.repeat(51) } }), 'data.unit'],
    ['a number as tag', metric({ data: { tags: { a: 1 } } }), 'data.tags.a'],
    [
      'tags that are too long together',
      metric({ data: { tags: Object.fromEntries(Array.from({ length: 20 }, (_, i) => [i, 'x'.repeat(100)])) } }),
      'data.tags',
    ],
    [
      '21 tags',
      metric({ data: { tags: Object.fromEntries(Array.from({ length: 21 }, (_, i) => [i, ''])) } }),
      'data.tags',
    ],
    ['64 KB of data', metric({ data: { text: 'x'.repeat(65_536) } }), 'data'],
    ['__proto__ three levels down', '{"event_type":"a","data":{"b":{"__proto__":{}}}}', 'data.b.__proto__'],
    ['a NUL character', '{"event_type":"a","data":{"b":"\\u0000"}}', 'data.b'],
    ['half of a surrogate pair', '{"event_type":"a","data":{"b":"\\ud800"}}', 'data.b'],
    ['a list instead of an event', [metric()], ''],
  ];
  it.each(bad)('refuses %s with 400 and stores nothing, both ways', async (_name, body, field) => {
    const count = await stored();
    for (const headers of [{}, { origin: 'http://localhost' }] as Record<string, string>[]) {
      const refused = await post<Refusal>(EVENTS, body, headers);
      expect(refused.status).toBe(400);
      expect(refused.body.error.code).toBe('VALIDATION_ERROR');
      expect(refused.body.error.details[0].field).toEqual(field);
      expect(refused.body.error.details[0].issue).not.toBe('');
    }
    expect(await stored()).toBe(count);
  });

  it('refuses 100,000 levels of nesting', async () => {
    const refused = await post<Refusal>(EVENTS, `{"event_type":"a","data":{"b":${'['.repeat(100_000)}`);
    expect(refused.status).toBe(400);
    expect(refused.body.error.code).toBe('VALIDATION_ERROR');
  });

  it('refuses who may not write, other content types and bodies that are too large', async () => {
    const viewer = await actor(app, { role: 'viewer' });
    expect((await app.call('POST', EVENTS, { key: viewer.key, body: metric() })).status).toBe(403);
    expect((await app.call('POST', EVENTS, { body: metric() })).status).toBe(401);
    expect((await post(EVENTS, JSON.stringify(metric()), { 'content-type': 'text/plain' })).status).toBe(415);
    expect((await post(EVENTS, metric({ data: { text: 'x'.repeat(11 * 1024 * 1024) } }))).status).toBe(413);
  });
});

describe('submitting a batch', () => {
  it('stores the good items and names the bad ones', async () => {
    const source = 'partial';
    const sent = [
      metric({ source }),
      metric({ source, timestamp: 'yesterday' }),
      metric({ source, data: { any: ['thing'] } }),
      'no event',
    ];
    const reply = await post<Batch>(BATCH, { events: sent });
    expect(reply.status).toBe(202);
    const counts = { accepted_count: 2, rejected_count: 2, duplicate_count: 0 };
    expect(reply.body).toMatchObject({ status: 'processing', ...counts });
    expect(reply.body.errors.map(({ index, field }) => [index, field])).toEqual([
      [1, 'timestamp'],
      [3, ''],
    ]);
    const { warnings, ...kept } = reply.body;
    expect(warnings?.map(({ index, field }) => [index, field])).toEqual([
      [2, 'data.metric_name'],
      [2, 'data.value'],
    ]);
    const again = await app.call('GET', `${BATCH}/${reply.body.batch_id}`, { key });
    expect(again.body).toEqual({ ...kept, status: 'completed' });
    const list = await app.call<{ pagination: { total: number } }>('GET', `${EVENTS}?source=${source}`, { key });
    expect(list.body.pagination.total).toBe(2);
  });

  it('counts what was there before, alone and within itself', async () => {
    const source = 'twice';
    const events = Array.from({ length: 400 }, () => metric({ source, event_id: randomUUID() }));
    const first = await post<Batch>(BATCH, { events: [...events, events[0]] });
    expect(first.body).toMatchObject({ accepted_count: 401, duplicate_count: 1, rejected_count: 0 });
    const second = await post<Batch>(BATCH, { events: [...events.slice(0, 300), metric({ source })] });
    expect(second.body).toMatchObject({ accepted_count: 301, duplicate_count: 300 });
    const kept = await app.call('GET', `${BATCH}/${second.body.batch_id}`, { key });
    expect(kept.body).toEqual({ ...second.body, status: 'completed' });
    const list = await app.call<{ pagination: { total: number } }>('GET', `${EVENTS}?source=${source}&limit=1`, {
      key,
    });
    expect(list.body.pagination.total).toBe(401);
  });

  it('stores a thousand of all kinds of text exactly', async () => {
    const source = 'exact';
    const events = Array.from({ length: 1000 }, (_, i) =>
      metric({
        source,
        data: { i, text: `é€😀 "\\\n\t ${'x'.repeat(i)}`, metric_name: `m${i % 3}`, value: -(i + 1) / 7 },
      }),
    );
    const reply = await post<Batch>(BATCH, { events });
    expect(reply.body.accepted_count).toBe(1000);
    const list = await app.call<{ events: { data: { i: number } }[] }>('GET', `${EVENTS}?source=${source}&limit=1000`, {
      key,
    });
    const data = list.body.events.map((e) => e.data).sort((a, b) => a.i - b.i);
    expect(data).toEqual(events.map((e) => e.data));
  });

  it('takes data as they are written, and hands them on compact', async () => {
    const heard: TelemetryRow[] = [];
    app.get(TelemetryIngest).onFlushed((rows) => heard.push(...rows));
    const source = 'written';
    const data = { metric_name: 'm', value: 1.25, note: 'a "b"\n', list: [{}, { data: 1 }], blank: '' };
    const text = JSON.stringify({ events: Array.from({ length: 200 }, () => metric({ source, data })) }, null, 2)
      .replaceAll('1.25', '1.250000000000000000000')
      .replaceAll('"blank": ""', `"blank": ${' '.repeat(300)}""`);
    const reply = await post<Batch>(BATCH, text);
    expect(reply.body).toMatchObject({ accepted_count: 200, rejected_count: 0 });
    const list = await app.call<{ events: { data: unknown }[] }>('GET', `${EVENTS}?source=${source}`, { key });
    expect(list.body.events[0].data).toEqual(data);
    expect(heard).toHaveLength(200);
    expect(heard[199].data).toBe(JSON.stringify(data));
  });

  it('counts the size of data without their white space', async () => {
    const padded = (value: string, spaces: number): string => {
      const event = JSON.stringify(metric({ source: 'padded', data: { blank: 'X', value } }));
      return `{"events":[${event.replace('"X"', `${' '.repeat(spaces)}""`)}]}`;
    };
    const fits = await post<Batch>(BATCH, padded('a', 70_000));
    expect(fits.body).toMatchObject({ accepted_count: 1, rejected_count: 0 });
    const large = await post<Batch>(BATCH, padded('a'.repeat(70_000), 0));
    expect(large.body.errors).toMatchObject([{ index: 0, field: 'data' }]);
  });

  it.each([
    ['no events', {}, 'events'],
    ['an empty list', { events: [] }, 'events'],
    ['1001 events', { events: Array.from({ length: 1001 }, () => metric()) }, 'events'],
    ['events that are no list', { events: { a: 1 } }, 'events'],
    ['an unknown field', { events: [metric()], mode: 'fast' }, 'mode'],
  ])('refuses %s', async (_name, body, field) => {
    const count = await stored();
    const refused = await post<Refusal>(BATCH, body);
    expect(refused.status).toBe(400);
    expect(refused.body.error.details[0].field).toBe(field);
    expect(await stored()).toBe(count);
  });

  it('takes a whole batch the ordinary way as well', async () => {
    const events = Array.from({ length: 1000 }, () => metric());
    const reply = await post<Batch>(BATCH, { events }, { origin: 'http://localhost' });
    expect(reply.status).toBe(202);
    expect(reply.body.accepted_count).toBe(1000);
  });

  it('refuses only the row that the database will not take, not its neighbours', async () => {
    await app.db.query(`ALTER TABLE telemetry_events ADD CONSTRAINT poison CHECK (event_type <> 'poison')`);
    try {
      const poison = metric({ event_type: 'poison' });
      const [mixed, good, single] = await Promise.all([
        post<Batch>(BATCH, { events: [metric(), poison, metric(), poison] }),
        post(EVENTS, metric()),
        post<Refusal>(EVENTS, poison),
      ]);
      expect(mixed.body).toMatchObject({ accepted_count: 2, rejected_count: 2 });
      expect(mixed.body.errors.map((e) => e.index)).toEqual([1, 3]);
      expect(good.status).toBe(201);
      expect(single.status).toBe(400);
    } finally {
      await app.db.query(`ALTER TABLE telemetry_events DROP CONSTRAINT poison`);
    }
  });

  it('says 404 for a batch that is not there', async () => {
    expect((await app.call('GET', `${BATCH}/batch_${randomUUID()}`, { key })).status).toBe(404);
    expect((await app.call('GET', `${BATCH}/1`, { key })).status).toBe(404);
    expect((await app.call('GET', `${EVENTS}/${randomUUID()}`, { key })).status).toBe(404);
    expect((await app.call('GET', `${EVENTS}/1`, { key })).status).toBe(404);
  });
});

describe('more than can be stored', () => {
  it('is refused with 503 and a time to wait, and what was acknowledged is there', async () => {
    const body = JSON.stringify({ events: Array.from({ length: 1000 }, () => metric({ source: 'flood' })) });
    const stuck: Promise<Awaited<ReturnType<typeof post<Refusal & Batch>>>>[] = [];
    await app.db.transaction(async (tx) => {
      // Holds up every insert, not the reads.
      await tx.query(`LOCK TABLE telemetry_events IN EXCLUSIVE MODE`);
      for (let i = 0; i < 60; i++) stuck.push(post(BATCH, body));
      const first = await Promise.race(stuck);
      expect(first.status).toBe(503);
      expect(first.headers.get('retry-after')).toBe('1');
      expect(first.body.error).toMatchObject({ code: 'SERVICE_UNAVAILABLE' });
    });
    const answers = await Promise.all(stuck);
    const accepted = answers.filter((a) => a.status === 202);
    expect(accepted.length).toBeGreaterThanOrEqual(50);
    expect(answers.filter((a) => a.status === 503)).toHaveLength(60 - accepted.length);
    const [{ n }] = await app.db.query<{ n: number }>(
      `SELECT count(*)::int AS n FROM telemetry_events WHERE source = 'flood'`,
    );
    expect(n).toBe(accepted.length * 1000);
    expect((await post(EVENTS, metric())).status).toBe(201);
  });

  it('loses and doubles nothing when the database cuts every connection again and again', async () => {
    const send = async (i: number): Promise<number> => {
      const events = Array.from({ length: 200 }, () => metric({ source: `cut-${i}` }));
      return (await post<Batch>(BATCH, { events })).status;
    };
    let cutting = true;
    const cut = (async () => {
      while (cutting) {
        await app.db.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE application_name = 'nexus-bulk' AND datname = current_database()`,
        );
        await new Promise((resolve) => setTimeout(resolve, 30));
      }
    })();
    const statuses: number[] = [];
    for (let i = 0; i < 40; i += 4) {
      statuses.push(...(await Promise.all([send(i), send(i + 1), send(i + 2), send(i + 3)])));
    }
    cutting = false;
    await cut;
    for (const [i, status] of statuses.entries()) {
      const [{ n }] = await app.db.query<{ n: number }>(
        `SELECT count(*)::int AS n FROM telemetry_events WHERE source = $1`,
        [`cut-${i}`],
      );
      if (status === 202) expect(n).toBe(200);
      else expect([0, 200]).toContain(n);
    }
    expect(statuses).toContain(202);
  });
});
