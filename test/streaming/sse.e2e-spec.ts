import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { actor } from '../support/actors.js';
import { eventually, startTestApp, type TestApp } from '../support/app.js';
import { registerAgent } from '../support/fake-agent.js';
import { EventReader, PATH } from './event-reader.js';
import { agentEvents, commandEvent, metric, telemetry } from './stream-client.js';

let app: TestApp;
let key: string;
beforeAll(async () => {
  app = await startTestApp();
  ({ key } = await actor(app));
});
afterAll(() => app.stop());

describe('server-sent events', () => {
  it('come unnamed with their id, after a greeting', async () => {
    const reader = EventReader.open(app.url, key, '?channels=commands.status,telemetry.*');
    expect(await reader.next('subscription_confirmed')).toMatchObject({
      data: { channels: ['commands.status', 'telemetry.metrics', 'telemetry.events'] },
    });
    expect([reader.status, reader.type]).toEqual([200, 'text/event-stream; charset=utf-8']);
    expect(reader.sent[0]).toMatchObject({ event: 'connection_established', retry: '2000' });
    await commandEvent(app);
    await telemetry(app, key, [metric()]);
    await agentEvents(app, 0, 1);
    await eventually(() => reader.events.length === 2);
    // Each channel has its own order; between two of them there is none.
    for (const channel of ['commands.status', 'telemetry.metrics']) {
      const sent = reader.events.find(({ data }) => data.channel === channel);
      expect(sent).toMatchObject({ id: expect.any(String) as string, data: { type: 'event', id: sent?.id } });
    }
    reader.close();
  });

  it('resume after Last-Event-ID, or say what may be missing', async () => {
    const agentId = `agent_${randomUUID()}`;
    const query = `?patterns=ai.*&filters=${encodeURIComponent(JSON.stringify({ subject: agentId }))}`;
    const first = EventReader.open(app.url, key, query);
    await first.next('subscription_confirmed');
    await agentEvents(app, 0, 3, { agentId });
    await eventually(() => first.events.length === 3);
    first.close();
    await agentEvents(app, 3, 5, { agentId });
    const [{ id = '' }] = first.events;
    const byHeader = EventReader.open(app.url, key, query, { 'last-event-id': id });
    const byQuery = EventReader.open(app.url, key, `${query}&last_event_id=${id}`);
    for (const reader of [byHeader, byQuery]) {
      await eventually(() => reader.events.length === 4);
      expect(reader.events.map(({ data }) => (data.data as { agent_name: string }).agent_name)).toEqual([
        'n1',
        'n2',
        'n3',
        'n4',
      ]);
      reader.close();
    }
    const lost = EventReader.open(app.url, key, '', { 'last-event-id': '999999999' });
    expect((await lost.next('gap')).data).toMatchObject({ message: 'relist' });
    lost.close();
  });

  it('are filtered, and limited to what the reader may read', async () => {
    const limited = await actor(app, { scopes: ['event:subscribe', 'command:read'] });
    const filters = encodeURIComponent(JSON.stringify({ target: ['web-5'] }));
    const reader = EventReader.open(app.url, limited.key, `?filters=${filters}`);
    await reader.next('subscription_confirmed');
    await agentEvents(app, 0, 1);
    await commandEvent(app, { target: 'web-4' });
    await commandEvent(app, { target: 'web-5' });
    await eventually(() => reader.events.length > 0);
    expect(reader.events.map(({ data }) => (data.data as { target: string }).target)).toEqual(['web-5']);
    reader.close();
    const refused = async (query: string): Promise<number> =>
      (await app.call('GET', PATH + query, { key: limited.key })).status;
    expect(await refused('?channels=telemetry.metrics')).toBe(403);
    expect(await refused('?channels=no.such')).toBe(400);
    expect(await refused('?filters=nojson')).toBe(400);
    expect(await refused('?last_event_id=yesterday')).toBe(400);
    expect((await app.call('GET', PATH)).status).toBe(401);
  });

  it('need the scope event:subscribe besides those of the channels', async () => {
    const limited = await actor(app, { scopes: ['command:read'] });
    const refused = await app.call<{ error: Record<string, unknown> }>('GET', `${PATH}?channels=commands.status`, {
      key: limited.key,
    });
    expect(refused.status).toBe(403);
    expect(refused.body.error).toMatchObject({
      code: 'AUTHORIZATION_FAILED',
      details: { required_scopes: ['event:subscribe'] },
    });
  });

  it('end within two seconds of a revocation', async () => {
    const victim = await actor(app);
    const reader = EventReader.open(app.url, victim.key);
    await reader.next('subscription_confirmed');
    await app.call('DELETE', `/api/v1/auth/api-keys/key_${victim.keyId}`, { key });
    await eventually(() => reader.ended, 2000);
    expect(reader.sent.at(-1)).toMatchObject({ event: 'error', data: { code: 'AUTHENTICATION_FAILED' } });
  });

  it('are kept alive with named events', { timeout: 30_000 }, async () => {
    const reader = EventReader.open(app.url, key);
    const { data } = await eventually(() => reader.sent.find(({ event }) => event === 'keepalive'), 25_000);
    expect(data).toMatchObject({ type: 'keepalive', timestamp: expect.stringMatching(/Z$/) as string });
    reader.close();
  });
});

describe('a ticket', () => {
  const ticketFor = async (as: string, channels?: string[]): Promise<string> =>
    (await app.call<{ ticket: string }>('POST', '/api/v1/stream/tickets', { key: as, body: { channels } })).body.ticket;

  it('opens one stream for a program that cannot send headers, and no second one', async () => {
    const ticket = await ticketFor(key);
    const reader = EventReader.open(app.url, null, `?channels=commands.status&ticket=${ticket}`);
    await reader.next('subscription_confirmed');
    await commandEvent(app);
    await eventually(() => reader.events.length === 1);
    const again = await app.call<{ error: Record<string, unknown> }>('GET', `${PATH}?ticket=${ticket}`);
    expect(again.status).toBe(401);
    expect(again.body.error).toMatchObject({
      code: 'AUTHENTICATION_FAILED',
      type: 'TOKEN_INVALID',
      message: expect.stringContaining('get a new one') as string,
    });
    reader.close();
  });

  it('is kept to its channels', async () => {
    const reader = EventReader.open(app.url, null, `?ticket=${await ticketFor(key, ['commands.*'])}`);
    expect((await reader.next('subscription_confirmed')).data).toMatchObject({ channels: ['commands.status'] });
    const other = await app.call(
      'GET',
      `${PATH}?channels=agents.status&ticket=${await ticketFor(key, ['commands.*'])}`,
    );
    expect(other.status).toBe(403);
    reader.close();
  });

  it('stands for its credential, and ends with it', async () => {
    const victim = await actor(app, { scopes: ['command:read', 'event:subscribe'] });
    const reader = EventReader.open(app.url, null, `?ticket=${await ticketFor(victim.key)}`);
    expect((await reader.next('subscription_confirmed')).data).toMatchObject({ channels: ['commands.status'] });
    const unused = await ticketFor(victim.key);
    await app.call('DELETE', `/api/v1/auth/api-keys/key_${victim.keyId}`, { key });
    await eventually(() => reader.ended, 2000);
    expect((await app.call('GET', `${PATH}?ticket=${unused}`)).status).toBe(401);
  });

  it('follows the output of a command, unless it is for channels', async () => {
    const { name: target } = await registerAgent(app, key);
    const body = { command_type: 'system.ping', target };
    const { command_id } = (await app.call<{ command_id: string }>('POST', '/api/v1/commands', { key, body })).body;
    const logs = `/api/v1/commands/${command_id}/logs`;
    await app.call('DELETE', `/api/v1/commands/${command_id}`, { key });
    const { status, text } = await app.call('GET', `${logs}?follow=true&ticket=${await ticketFor(key)}`);
    expect([status, text]).toEqual([200, expect.stringContaining('event: complete')]);
    const limited = `${logs}?follow=true&ticket=${await ticketFor(key, ['commands.status'])}`;
    expect((await app.call('GET', limited)).status).toBe(403);
    const blind = await actor(app, { scopes: ['telemetry:read'] });
    expect((await app.call('GET', `${logs}?follow=true&ticket=${await ticketFor(blind.key)}`)).status).toBe(403);
  });

  it('is good for nothing but streams', async () => {
    const ticket = await ticketFor(key);
    for (const [method, path] of [
      ['GET', '/api/v1/commands'],
      ['GET', `/api/v1/commands/cmd_${randomUUID()}/logs`],
      ['GET', `/api/v1/commands/cmd_${randomUUID()}/logs?follow=false`],
      ['HEAD', PATH],
      ['POST', '/api/v1/stream/tickets'],
    ]) {
      const { status } = await app.call(method, `${path}${path.includes('?') ? '&' : '?'}ticket=${ticket}`);
      expect(status, `${method} ${path}`).toBe(401);
    }
    const bearer = await app.call('GET', PATH, { key: ticket });
    expect(bearer.status).toBe(401);
    const reader = EventReader.open(app.url, null, `?ticket=${ticket}`);
    await reader.next('subscription_confirmed');
    reader.close();
  });
});

describe('a server that stops', () => {
  it('tells its readers when to come back', async () => {
    const own = await startTestApp();
    const one = await actor(own);
    const reader = EventReader.open(own.url, one.key);
    await reader.next('subscription_confirmed');
    await own.stop();
    await eventually(() => reader.ended);
    const { retry, data } = await reader.next('draining');
    expect(Number(retry)).toBeGreaterThan(0);
    expect(data).toMatchObject({ retry_after_ms: Number(retry) });
  });
});
