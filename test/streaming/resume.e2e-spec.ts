import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { actor } from '../support/actors.js';
import { eventually, startTestApp, type TestApp } from '../support/app.js';
import { EventReader } from './event-reader.js';
import { agentEvents, metric, type Message, numberOf, StreamReader, telemetry } from './stream-client.js';

let app: TestApp;
let key: string;
beforeAll(async () => {
  app = await startTestApp();
  ({ key } = await actor(app));
});
afterAll(() => app.stop());

const open = (wish?: object): Promise<StreamReader> => StreamReader.open(app.url, key, wish);
/** What it had missed has been sent: messages about subscriptions are answered in turn. */
async function caughtUp(reader: StreamReader): Promise<void> {
  reader.say({ action: 'unsubscribe', channels: ['jobs.events'] });
  await reader.next('unsubscription_confirmed');
}
const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

describe('coming back', () => {
  it('brings what was missed, in order, then goes on, by id and by seq', async () => {
    const agentId = `agent_${randomUUID()}`;
    const channels = ['agents.status'];
    const filters = { agent_id: agentId };
    const first = await open({ channels, filters });
    await agentEvents(app, 0, 10, { agentId });
    await eventually(() => first.events.length === 10);
    const last = first.events[4];
    await first.close();
    for (const since of [last.id, last.seq, Number(last.seq)]) {
      const reader = await open({ channels, filters, since });
      await eventually(() => reader.events.length === 5);
      expect(reader.numbers).toEqual([5, 6, 7, 8, 9]);
      expect(reader.events.map(({ id }) => id)).toEqual(first.events.slice(5).map(({ id }) => id));
      await reader.close();
    }
    const reader = await open({ channels, filters, since: last.id });
    await agentEvents(app, 10, 12, { agentId });
    await eventually(() => reader.events.length === 7);
    expect(reader.numbers).toEqual([5, 6, 7, 8, 9, 10, 11]);
    await reader.close();
  });

  it('fifty times while events pour in shows every event once and in order', async () => {
    const agentId = `agent_${randomUUID()}`;
    const wish = { channels: ['agents.status'], filters: { agent_id: agentId } };
    const total = 3000;
    const seen: Message[] = [];
    let reader = await open(wish);
    const load = (async () => {
      for (let n = 0; n < total; n += 10) await agentEvents(app, n, n + 10, { agentId, together: n % 20 === 0 });
    })();
    for (let round = 0; round < 50; round++) {
      // All of them may have come before the last round.
      const all = (): boolean => seen.length + reader.events.length >= total;
      await eventually(() => reader.events.length > round % 7 || all(), 60_000);
      await reader.close();
      seen.push(...reader.events);
      reader = await open({ ...wish, since: seen.at(-1)?.id });
    }
    await load;
    await eventually(() => seen.length + reader.events.length >= total, 60_000);
    seen.push(...reader.events);
    await reader.close();
    expect(seen.map(numberOf)).toEqual(upTo(total));
    expect(new Set(seen.map(({ id }) => id)).size).toBe(total);
    expect(reader.messages.some(({ type }) => type === 'gap')).toBe(false);
  }, 150_000);

  it('from an id that is not known any more says that something may be missing, and goes on', async () => {
    for (const since of [`evt_${randomUUID()}`, '999999999']) {
      const reader = await open();
      reader.say({ action: 'subscribe', channels: ['agents.status'], since });
      expect(await reader.next('gap')).toMatchObject({ channels: ['agents.status'], message: 'relist' });
      const types = reader.messages.map(({ type }) => type);
      expect(types.indexOf('subscription_confirmed')).toBeLessThan(types.indexOf('gap'));
      await agentEvents(app, 70, 71);
      await eventually(() => reader.events.length === 1);
      await reader.close();
    }
  });

  it('from events that were removed says so', async () => {
    const reader = await open({ channels: ['agents.status'] });
    await agentEvents(app, 0, 3);
    await eventually(() => reader.events.length === 3);
    await app.db.query(`DELETE FROM events WHERE seq <= $1`, [reader.events[1].seq]);
    const since = (id: unknown): Promise<StreamReader> => open({ channels: ['agents.status'], since: id });
    const [tooOld, kept] = [await since(reader.events[0].id), await since(reader.events[2].id)];
    await tooOld.next('gap');
    await caughtUp(kept);
    expect(kept.messages.some(({ type }) => type === 'gap')).toBe(false);
    await Promise.all([reader, tooOld, kept].map((one) => one.close()));
  });

  it('from before events that were purged says so, from behind them not', { timeout: 60_000 }, async () => {
    const reader = await open({ channels: ['agents.status'] });
    await agentEvents(app, 0, 4);
    await eventually(() => reader.events.length === 4);
    const [first, second, third, last] = reader.events;
    await app.db.query(
      `UPDATE events SET type = 'gone.made', occurred_at = now() - interval '1 day' WHERE seq = ANY ($1::bigint[])`,
      [[second.seq, third.seq]],
    );
    const body = { criteria: { older_than: '1h', event_types: ['gone.*'] } };
    const purge = await app.call<{ data: { purge_id: string } }>('POST', '/api/v1/events/purge', { key, body });
    expect(purge.status).toBe(202);
    await eventually(async () => {
      const path = `/api/v1/events/purge/${purge.body.data.purge_id}`;
      const { data } = (await app.call<{ data: { status: string } }>('GET', path, { key })).body;
      return data.status === 'completed';
    }, 45_000);
    const since = (id: unknown): Promise<StreamReader> => open({ channels: ['agents.status'], since: id });
    const [before, behind] = [await since(first.id), await since(last.id)];
    await before.next('gap');
    expect(before.events.map(({ id }) => id)).toEqual([last.id]);
    await caughtUp(behind);
    expect(behind.messages.some(({ type }) => type === 'gap')).toBe(false);
    await Promise.all([reader, before, behind].map((one) => one.close()));
  });

  it('needs channels that are not being heard already', async () => {
    const reader = await open({ channels: ['agents.status'] });
    expect(await reader.subscribe({ channels: ['agents.*'], since: '0' })).toMatchObject({
      code: 'ALREADY_SUBSCRIBED',
    });
    await reader.close();
  });

  it('works for telemetry from what the process remembers, and names the gap for all else', async () => {
    const first = await open({ channels: ['telemetry.*'] });
    const send = (from: number, to: number): Promise<void> =>
      telemetry(
        app,
        key,
        upTo(to - from).map((i) => metric({}, from + i)),
      );
    await send(0, 5);
    await eventually(() => first.events.length === 5);
    await first.close();
    await send(5, 10);
    const values = (reader: StreamReader): unknown[] =>
      reader.events.map(({ data }) => (data?.data as { value: number }).value);
    const again = await open({ channels: ['telemetry.*'], since: first.events[2].id });
    await eventually(() => again.events.length === 7);
    expect(values(again)).toEqual([3, 4, 5, 6, 7, 8, 9]);
    expect(again.messages.some(({ type }) => type === 'gap')).toBe(false);
    const mixed = await open({ channels: ['telemetry.metrics', 'agents.status'], since: first.events[2].id });
    expect(await mixed.next('gap')).toMatchObject({ channels: ['agents.status'] });
    const unknown = await open({ channels: ['telemetry.metrics'], since: randomUUID() });
    expect(await unknown.next('gap')).toMatchObject({ channels: ['telemetry.metrics'] });
    await Promise.all([again, mixed, unknown].map((one) => one.close()));
  });

  it('works for events and telemetry together, from any id of both', async () => {
    const agentId = `agent_${randomUUID()}`;
    const source = `both-${agentId}`;
    const wish = {
      channels: ['agents.status', 'telemetry.*'],
      filters: { event_type: ['ai.agent_status_changed', 'both.made'] },
    };
    const measure = (n: number): Promise<void> =>
      telemetry(app, key, [{ event_type: 'both.made', source, data: { n } }]);
    const textOf = ({ data, seq }: Message): string =>
      seq === undefined ? `t${String((data?.data as { n: number }).n)}` : String(data?.agent_name);
    const seen: Message[] = [];
    const reader = await open(wish);
    for (let n = 0; n < 3; n++) {
      await agentEvents(app, n, n + 1, { agentId });
      await eventually(() => reader.events.length === 2 * n + 1);
      await measure(n);
      await eventually(() => reader.events.length === 2 * n + 2);
    }
    seen.push(...reader.events);
    await reader.close();
    expect(seen.map(textOf)).toEqual(['n0', 't0', 'n1', 't1', 'n2', 't2']);
    for (const [at, { id, event_id }] of seen.entries()) {
      expect(id).toMatch(/^\d+\.[0-9a-f-]{36}$/);
      if (at % 2 === 0) expect(event_id).toMatch(/^evt_/);
      const again = await open({ ...wish, since: id });
      await eventually(() => again.events.length >= seen.length - at - 1);
      await caughtUp(again);
      expect(again.messages.filter(({ type }) => type === 'gap')).toEqual([]);
      expect(again.events.map(textOf).sort()).toEqual(
        seen
          .slice(at + 1)
          .map(textOf)
          .sort(),
      );
      await again.close();
    }
    const [seq] = String(seen[1].id).split('.');
    const elsewhere = await open({ ...wish, since: `${seq}.${randomUUID()}` });
    expect(await elsewhere.next('gap')).toMatchObject({ channels: ['telemetry.metrics', 'telemetry.events'] });
    await eventually(() => elsewhere.events.length === 2);
    expect(elsewhere.events.map(textOf)).toEqual(['n1', 'n2']);
    expect(elsewhere.messages.filter(({ type }) => type === 'gap').length).toBe(1);
    await elsewhere.close();
  });

  it('works for server-sent events and telemetry together', async () => {
    const source = `sse-${randomUUID()}`;
    const query = `?channels=agents.status,telemetry.events&filters=${encodeURIComponent(JSON.stringify({ subject: source }))}`;
    const first = EventReader.open(app.url, key, query);
    await first.next('subscription_confirmed');
    await agentEvents(app, 0, 1, { agentId: source });
    await telemetry(app, key, [{ event_type: 'sse.made', source, data: {} }]);
    await eventually(() => first.events.length === 2);
    first.close();
    await agentEvents(app, 1, 2, { agentId: source });
    await telemetry(app, key, [{ event_type: 'sse.made', source, data: {} }]);
    const again = EventReader.open(app.url, key, query, { 'last-event-id': first.events[1].id ?? '' });
    await eventually(() => again.events.length === 2);
    expect(again.events.map(({ data }) => data.channel).sort()).toEqual(['agents.status', 'telemetry.events']);
    expect(again.sent.some(({ event }) => event === 'gap')).toBe(false);
    again.close();
  });
});
