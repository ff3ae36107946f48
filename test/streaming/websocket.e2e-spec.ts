import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import WebSocket from 'ws';
import { actor } from '../support/actors.js';
import { eventually, startTestApp, type TestApp } from '../support/app.js';
import { registerAgent } from '../support/fake-agent.js';
import { agentEvents, commandEvent, metric, STREAM, StreamReader, telemetry } from './stream-client.js';

let app: TestApp;
let key: string;
beforeAll(async () => {
  app = await startTestApp({ NEXUS_CORS_ORIGINS: 'https://app.example.com' });
  ({ key } = await actor(app));
});
afterAll(() => app.stop());

const open = (wish?: object, as = key): Promise<StreamReader> => StreamReader.open(app.url, as, wish);
const ticketFor = async (as: string, channels?: string[]): Promise<string> => {
  const { status, body } = await app.call<{ ticket: string; expires_in: number }>('POST', `${STREAM}/tickets`, {
    key: as,
    body: { channels },
  });
  expect([status, body.expires_in]).toEqual([201, 60]);
  return body.ticket;
};

describe('connecting', () => {
  it('is greeted on each of the three paths', async () => {
    for (const path of ['/api/v1/stream', '/stream', '/api/v1/events/stream']) {
      const reader = StreamReader.connect(app.url, key, path);
      const hello = await reader.next('connection_established');
      expect(hello.client_id).toMatch(/^client_/);
      expect(Date.parse(String(hello.timestamp))).toBeGreaterThan(Date.now() - 10_000);
      await reader.close();
    }
  });

  it('is closed with 1008 and told why without a good credential', async () => {
    for (const bad of [null, 'nexus_api_wrong', 'a.b.c']) {
      const reader = StreamReader.connect(app.url, bad);
      expect((await reader.end()).code).toBe(1008);
      expect(reader.messages).toEqual([expect.objectContaining({ type: 'error', code: 'AUTHENTICATION_FAILED' })]);
    }
  });

  it('takes the credential as a subprotocol and answers one of those offered', async () => {
    for (const [protocols, chosen] of [
      [[`nexus.bearer.${key}`], `nexus.bearer.${key}`],
      [[`nexus.bearer.${key}`, 'nexus.stream.v1'], 'nexus.stream.v1'],
    ] as const) {
      const ws = new WebSocket(app.url.replace('http', 'ws') + STREAM, [...protocols]);
      const reader = new StreamReader(ws);
      await reader.next('connection_established');
      expect(ws.protocol).toBe(chosen);
      await reader.close();
    }
    const wrong = new StreamReader(new WebSocket(app.url.replace('http', 'ws') + STREAM, ['nexus.bearer.nope']));
    expect((await wrong.end()).code).toBe(1008);
  });

  it('takes a ticket once, and only for its channels', async () => {
    const ticket = await ticketFor(key, ['commands.status']);
    const reader = StreamReader.connect(app.url, null, `${STREAM}?ticket=${ticket}`);
    await reader.next('connection_established');
    expect(await reader.subscribe({ channels: ['*'] })).toMatchObject({ channels: ['commands.status'] });
    expect(await reader.subscribe({ channels: ['agents.status'] })).toMatchObject({ code: 'INSUFFICIENT_SCOPE' });
    const again = StreamReader.connect(app.url, null, `${STREAM}?ticket=${ticket}`);
    expect((await again.end()).code).toBe(1008);
    await reader.close();
    const late = await ticketFor(key);
    await app.db.query(`UPDATE stream_tickets SET expires_at = now() - interval '1 second'`);
    expect((await StreamReader.connect(app.url, null, `${STREAM}?ticket=${late}`).end()).code).toBe(1008);
  });

  it('takes a token in the URL only where a setting says so', async () => {
    const refused = StreamReader.connect(app.url, null, `${STREAM}?token=${key}`);
    expect((await refused.end()).code).toBe(1008);
    const lenient = await startTestApp({ NEXUS_STREAM_TOKEN_IN_URL: 'true' });
    try {
      const one = await actor(lenient);
      const reader = StreamReader.connect(lenient.url, null, `${STREAM}?token=${one.key}`);
      await reader.next('connection_established');
      await reader.close();
      const wrong = StreamReader.connect(lenient.url, null, `${STREAM}?token=nope`);
      expect((await wrong.end()).code).toBe(1008);
      expect((await lenient.call('GET', `/api/v1/events/stream?token=${one.key}`)).status).toBe(401);
    } finally {
      await lenient.stop();
    }
  });

  it('gives no ticket for what may not be read, and none that outlives its key', async () => {
    const limited = await actor(app, { scopes: ['command:read'] });
    const refused = await app.call('POST', `${STREAM}/tickets`, {
      key: limited.key,
      body: { channels: ['telemetry.metrics'] },
    });
    expect(refused.status).toBe(403);
    expect((await app.call('POST', `${STREAM}/tickets`, { key, body: { channels: ['no.such'] } })).status).toBe(400);
    const ticket = await ticketFor(limited.key);
    await app.call('DELETE', `/api/v1/auth/api-keys/key_${limited.keyId}`, { key });
    expect((await StreamReader.connect(app.url, null, `${STREAM}?ticket=${ticket}`).end()).code).toBe(1008);
  });

  it('lets pages of allowed origins in and no others', async () => {
    const from = (origin: string): StreamReader => StreamReader.connect(app.url, key, STREAM, { headers: { origin } });
    for (const origin of ['https://app.example.com', app.url]) {
      const reader = from(origin);
      await reader.next('connection_established');
      await reader.close();
    }
    for (const origin of ['https://evil.example.com', 'null']) {
      const { ws } = from(origin);
      const [, response] = (await once(ws, 'unexpected-response')) as [unknown, IncomingMessage];
      expect(response.statusCode).toBe(403);
    }
  });

  it('is limited per key', async () => {
    const one = await actor(app);
    const readers = await Promise.all(Array.from({ length: 50 }, () => open(undefined, one.key)));
    const more = StreamReader.connect(app.url, one.key);
    expect((await more.end()).code).toBe(1008);
    expect(more.messages).toEqual([expect.objectContaining({ type: 'error', code: 'LIMIT_EXCEEDED' })]);
    await readers[0].close();
    const instead = await eventually(async () => {
      const reader = StreamReader.connect(app.url, one.key);
      const [first] = await eventually(() => reader.messages.length > 0 && reader.messages);
      return first.type === 'connection_established' && reader;
    });
    await Promise.all([instead, ...readers].map((reader) => reader.close()));
  });
});

describe('subscribing', () => {
  it('is confirmed and brings what happens on the channel', async () => {
    const reader = await open();
    const confirmed = await reader.subscribe({ channels: ['commands.status'], filters: {} });
    expect(confirmed).toEqual({
      type: 'subscription_confirmed',
      channels: ['commands.status'],
      filters: {},
      subscription_id: expect.stringMatching(/^sub_/) as string,
    });
    await commandEvent(app);
    expect(await reader.next('event')).toMatchObject({
      channel: 'commands.status',
      id: expect.stringMatching(/^evt_[0-9a-f-]{36}$/) as string,
      seq: expect.stringMatching(/^\d+$/) as string,
      event_type: 'command.completed',
      subject: expect.stringMatching(/^cmd_/) as string,
      timestamp: expect.stringMatching(/Z$/) as string,
      data: { command_type: 'system.ping', target: 'web-1' },
    });
    await reader.close();
  });

  it('takes wildcards and patterns of event types, and sends an event once per channel', async () => {
    const reader = await open({ channels: ['commands.*', 'agents.status'] });
    await reader.subscribe({ channels: ['*'] });
    const byType = await open({ patterns: ['command.*', '*.created'] });
    await agentEvents(app, 0, 1);
    await commandEvent(app);
    // Whatever else happens on the server is heard on `*`, too.
    const heard = (): unknown[] =>
      reader.events.map(({ channel }) => channel).filter((name) => /^(agents|commands)/.test(String(name)));
    await eventually(() => heard().length === 2 && byType.events.length > 0);
    expect(heard()).toEqual(['agents.status', 'commands.status']);
    expect(byType.events.filter(({ event_type }) => event_type !== 'user.created')).toMatchObject([
      { channel: 'events', event_type: 'command.completed' },
    ]);
    await Promise.all([reader.close(), byType.close()]);
  });

  it('filters by a value or a list per field, all of which must fit', async () => {
    const one = await open({ channels: ['commands.status'], filters: { target: 'web-2' } });
    const some = await open({
      channels: ['commands.status'],
      filters: { target: ['web-1', 'web-2'], status: 'completed', 'data.exit_code': 3 },
    });
    await commandEvent(app, { target: 'web-1', exit_code: 3 });
    await commandEvent(app, { target: 'web-2', exit_code: 0 });
    await commandEvent(app, { target: 'web-2', exit_code: 3 });
    await commandEvent(app, { target: 'web-3', exit_code: 3 });
    await eventually(() => one.events.length === 2 && some.events.length === 2);
    expect(one.events.map(({ data }) => data?.target)).toEqual(['web-2', 'web-2']);
    expect(some.events.map(({ data }) => [data?.target, data?.exit_code])).toEqual([
      ['web-1', 3],
      ['web-2', 3],
    ]);
    await Promise.all([one.close(), some.close()]);
  });

  it('is taken as the specification prints it: a filter is left out where events never have its field', async () => {
    const channels = ['telemetry.metrics', 'tasks.updates', 'commands.status'];
    const filters = { source: 'agent_001', priority: ['high', 'critical'] };
    const reader = await open();
    expect(await reader.subscribe({ channels, filters })).toMatchObject({
      type: 'subscription_confirmed',
      channels,
      warnings: ['Events of telemetry.metrics have no priority: not filtered by it', 'tasks.updates has no events yet'],
    });
    for (const source of ['agent_001', 'agent_002']) await telemetry(app, key, [metric({ source })]);
    for (const [source, priority] of [
      ['agent_002', 'high'],
      ['agent_001', 'normal'],
      ['agent_001', 'critical'],
    ]) {
      await commandEvent(app, { source, priority });
    }
    await eventually(() => reader.events.length === 2);
    expect(reader.events.find(({ channel }) => channel === 'telemetry.metrics')).toMatchObject({
      data: { event_type: 'system.metric', source: 'agent_001', metric_name: 'cpu', value: 1 },
    });
    expect(reader.events.find(({ channel }) => channel === 'commands.status')).toMatchObject({
      data: { source: 'agent_001', priority: 'critical' },
    });
    await reader.close();
  });

  it('takes one filter for several channels, but no field that nothing has', async () => {
    const reader = await open();
    await reader.subscribe({ channels: ['commands.status', 'agents.status'], filters: { target: 'web-9' } });
    await commandEvent(app);
    await commandEvent(app, { target: 'web-9' });
    await agentEvents(app, 5, 6);
    await eventually(() => reader.events.length === 2);
    expect(reader.events.map(({ channel }) => channel)).toEqual(['commands.status', 'agents.status']);
    expect(await reader.subscribe({ channels: ['commands.status'], filters: { targett: 'web-9' } })).toMatchObject({
      code: 'VALIDATION_ERROR',
      message: expect.stringContaining('has the field targett; there are target') as string,
    });
    await reader.close();
  });

  it('offers only channels that have events, and says which there are', async () => {
    const reader = await open();
    const { channels } = await reader.subscribe({ channels: ['*'] });
    expect(channels).toEqual(
      expect.arrayContaining(['commands.status', 'agents.status', 'system.alerts', 'custom.events']),
    );
    for (const silent of ['tasks.updates', 'ai.requests', 'jobs.events']) expect(channels).not.toContain(silent);
    for (const [name, first] of [
      ['command.status', 'commands.status'],
      ['tasks.*', 'agents.status'],
      ['telemetry.metric', 'telemetry.metrics'],
    ]) {
      const refused = await reader.subscribe({ channels: [name] });
      expect(refused).toMatchObject({ type: 'error', code: 'INVALID_CHANNEL' });
      expect(refused.message).toContain(`There is no channel ${name}; there are `);
      expect(refused.message).toContain(first);
    }
    await reader.close();
  });

  it('ends by channel or by id', async () => {
    const reader = await open({ channels: ['commands.status', 'agents.status'] });
    reader.say({ action: 'unsubscribe', channels: ['commands.*'] });
    expect(await reader.next('unsubscription_confirmed')).toMatchObject({ channels: ['commands.status'] });
    await commandEvent(app);
    await agentEvents(app, 1, 2);
    await eventually(() => reader.events.length > 0);
    expect(reader.events.map(({ channel }) => channel)).toEqual(['agents.status']);
    const { subscription_id } = await reader.next('subscription_confirmed');
    reader.messages.length = 0;
    reader.say({ action: 'unsubscribe', subscription_id });
    expect(await reader.next('unsubscription_confirmed')).toMatchObject({ channels: ['agents.status'] });
    reader.say({ action: 'unsubscribe', subscription_id });
    expect(await reader.next('subscription_error')).toMatchObject({ code: 'UNKNOWN_SUBSCRIPTION' });
    await reader.close();
  });

  it('answers pings, and says what is wrong with a message', async () => {
    const reader = await open();
    reader.say({ action: 'ping' });
    expect(Date.parse(String((await reader.next('pong')).timestamp))).not.toBeNaN();
    const answer = (wish: object): Promise<unknown> => reader.subscribe(wish);
    expect(await answer({ channels: ['no.such'] })).toMatchObject({ type: 'error', code: 'INVALID_CHANNEL' });
    expect(await answer({ channels: ['BAD NAME'] })).toMatchObject({ type: 'error', code: 'INVALID_CHANNEL' });
    for (const wish of [
      {},
      { channels: [] },
      { channels: [1] },
      { channels: ['*'], filters: [] },
      { channels: ['*'], filters: { a: {} } },
      { channels: ['*'], since: 'yesterday' },
      { channels: Array.from({ length: 51 }, () => 'jobs.*') },
      { channels: ['*'], filter: { source: 'web-1' } },
    ]) {
      expect(await answer(wish)).toMatchObject({ type: 'subscription_error', code: 'VALIDATION_ERROR' });
    }
    expect(await answer({ channels: ['*'], ['__proto__']: {} })).toMatchObject({
      code: 'BAD_MESSAGE',
      message: expect.stringContaining('__proto__') as string,
    });
    for (let i = 0; i < 19; i++) reader.say(i % 2 ? '{bad' : { action: 'publish' });
    expect((await reader.end()).code).toBe(1002);
    expect(reader.messages.filter(({ code }) => code === 'BAD_MESSAGE').length).toBe(10);
    expect(reader.messages.filter(({ code }) => code === 'INVALID_ACTION').length).toBe(10);
  });

  it('takes a message of 1 MB and closes on a larger one', async () => {
    const reader = await open();
    reader.say({ action: 'ping', padding: 'x'.repeat(1_000_000) });
    await reader.next('pong');
    const filters = { target: ['web-2', ...Array.from({ length: 5000 }, (_, i) => `web-${i}-${'x'.repeat(170)}`)] };
    expect(await reader.subscribe({ channels: ['commands.status'], filters })).toMatchObject({
      type: expect.stringMatching(/^subscription_/) as string,
    });
    reader.say({ action: 'ping', padding: 'x'.repeat(1024 * 1024) });
    expect((await reader.end()).code).toBe(1009);
  });

  it('that sends without end is read slowly, and keeps no other client waiting', async () => {
    const [noisy, quiet] = [await open(), await open()];
    const pongs = (reader: StreamReader): number => reader.messages.filter(({ type }) => type === 'pong').length;
    const message = JSON.stringify({ action: 'ping', padding: 'x'.repeat(100) });
    for (let n = 0; n < 5000; n++) noisy.say(message);
    for (let n = 1; n <= 20; n++) {
      quiet.say({ action: 'ping' });
      await eventually(() => pongs(quiet) === n);
    }
    expect(pongs(noisy)).toBeLessThan(2500);
    expect(noisy.closed).toBeUndefined();
    await Promise.all([noisy.close(), quiet.close()]);
  });

  it('closes on a message in thousands of pieces', async () => {
    const reader = await open();
    for (let i = 0; i < 2000; i++) reader.ws.send(' ', { fin: false });
    expect((await reader.end()).code).toBe(1008);
  });

  it('is kept alive with messages', { timeout: 40_000 }, async () => {
    const reader = await open({ channels: ['tasks.updates'] });
    const message = await eventually(() => reader.messages.find(({ type }) => type === 'keepalive'), 25_000);
    expect(message).toEqual({ type: 'keepalive', timestamp: expect.stringMatching(/Z$/) as string });
    await reader.close();
  });
});

describe('what a reader may not read', () => {
  it('never reaches it', async () => {
    const limited = await actor(app, { scopes: ['command:read'] });
    const reader = await open(undefined, limited.key);
    expect(await reader.subscribe({ channels: ['telemetry.metrics'] })).toMatchObject({
      type: 'subscription_error',
      code: 'INSUFFICIENT_SCOPE',
    });
    expect(await reader.subscribe({ patterns: ['*'] })).toMatchObject({ code: 'INSUFFICIENT_SCOPE' });
    expect(await reader.subscribe({ channels: ['*'] })).toMatchObject({ channels: ['commands.status'] });
    const wide = await actor(app, { scopes: ['event:subscribe', 'command:read'] });
    const all = await open({ patterns: ['*'] }, wide.key);
    await agentEvents(app, 5, 6);
    await telemetry(app, key, [metric()]);
    await commandEvent(app);
    await eventually(() => reader.events.length > 0 && all.events.length > 0);
    expect(reader.events.map(({ channel }) => channel)).toEqual(['commands.status']);
    expect(all.events.map(({ event_type }) => event_type)).toEqual(['command.completed']);
    await Promise.all([reader.close(), all.close()]);
  });

  it('is asked for by channel on a stream, and by event:subscribe as well where events are followed', async () => {
    const limited = await actor(app, { scopes: ['command:read'] });
    for (const path of ['/api/v1/stream', '/stream']) {
      const reader = StreamReader.connect(app.url, limited.key, path);
      await reader.next('connection_established');
      expect(await reader.subscribe({ channels: ['commands.status'] })).toMatchObject({
        type: 'subscription_confirmed',
      });
      await reader.close();
    }
    const refused = StreamReader.connect(app.url, limited.key, '/api/v1/events/stream');
    expect((await refused.end()).code).toBe(1008);
    expect(refused.messages).toEqual([
      expect.objectContaining({
        type: 'error',
        code: 'AUTHORIZATION_FAILED',
        message: 'This needs the scope event:subscribe',
      }),
    ]);
  });

  it('of an agent is all but what is its own', async () => {
    const [own, other] = [await registerAgent(app, key), await registerAgent(app, key)];
    const reader = await open({ channels: ['*'] }, own.key);
    expect((await reader.next('subscription_confirmed')).channels).not.toContain('agents.status');
    await commandEvent(app, { agent_id: other.id });
    await telemetry(app, key, [metric({ source: other.name }), metric({ source: own.name })]);
    await commandEvent(app, { agent_id: own.id });
    await eventually(() => reader.events.length >= 2);
    expect(reader.events.filter(({ channel }) => channel === 'commands.status')).toMatchObject([
      { data: { agent_id: own.id } },
    ]);
    expect(reader.events.filter(({ channel }) => channel === 'telemetry.metrics')).toMatchObject([
      { data: { source: own.name } },
    ]);
    await reader.close();
  });
});

describe('telemetry', () => {
  it('is on its two channels as soon as it is stored, with filters over source, type and tags', async () => {
    const both = await open({ channels: ['telemetry.*'] });
    const some = await open({ channels: ['telemetry.*'], filters: { source: ['web-7'], 'tag.host': 'b' } });
    await telemetry(app, key, [
      metric({ source: 'web-7' }, 0.1),
      metric({ source: 'web-7', data: { metric_name: 'cpu', value: 2, tags: { host: 'b' } } }),
      { event_type: 'app.error', source: 'web-7', data: { message: 'überlauf' } },
    ]);
    await eventually(() => both.events.length === 3 && some.events.length === 1);
    expect(both.events.map(({ channel }) => channel)).toEqual([
      'telemetry.metrics',
      'telemetry.metrics',
      'telemetry.events',
    ]);
    expect(both.events[2].data).toMatchObject({
      event_type: 'app.error',
      source: 'web-7',
      data: { message: 'überlauf' },
    });
    expect(both.events[0].id).toBe(both.events[0].data?.event_id);
    expect(some.events[0].data).toMatchObject({ metric_name: 'cpu', value: 2, source: 'web-7', data: { value: 2 } });
    await Promise.all([both.close(), some.close()]);
  });

  it('is not written down a second time for its readers', async () => {
    const rows = async (): Promise<unknown> =>
      app.db.query(
        `SELECT (SELECT count(*) FROM events) AS events, (SELECT count(*) FROM telemetry_events) AS telemetry`,
      );
    const [before] = (await rows()) as { events: string; telemetry: string }[];
    const reader = await open({ channels: ['telemetry.metrics'] });
    await telemetry(
      app,
      key,
      Array.from({ length: 200 }, (_, i) => metric({}, i)),
    );
    await eventually(() => reader.events.length === 200);
    expect(await rows()).toEqual([{ events: before.events, telemetry: String(Number(before.telemetry) + 200) }]);
    await reader.close();
  });
});
