import { afterAll, beforeAll, expect, it } from 'vitest';
import { eventually } from '../support/eventually.js';
import { KillableWorker } from '../webhooks/killable-worker.js';

const EVENTS = 60;

let both: KillableWorker;
beforeAll(async () => {
  both = await KillableWorker.start();
}, 120_000);
afterAll(() => both?.stop());

it(
  'kill -9 of the worker in the middle of a replay: another one goes on where it was',
  { timeout: 240_000 },
  async () => {
    const { bench } = both;
    const { app, receiver, key } = bench;
    await bench.register({ events: ['orders.*'] });
    const emitted = new Set<string>();
    for (let n = 0; n < EVENTS; n++) {
      const { body } = await app.call<{ data: { event: { event_id: string } } }>('POST', '/api/v1/events', {
        key,
        body: { type: 'orders.created', data: { n }, correlation_id: 'kill-test' },
      });
      emitted.add(body.data.event.event_id);
    }
    await eventually(() => receiver.received.length >= EVENTS, 60_000);
    const replayed = (): string[] =>
      receiver.received
        .filter(({ headers }) => headers['x-nexus-replay'])
        .map(({ headers }) => String(headers['webhook-id']));
    const started = await app.call<{ data: { replay_id: string } }>('POST', '/api/v1/events/replay', {
      key,
      body: { event_filter: { correlation_id: 'kill-test' }, replay_mode: 'paced', delay_between_events_ms: 100 },
    });
    expect(started.status).toBe(202);
    await eventually(() => replayed().length >= EVENTS / 4, 60_000);
    await both.killWorker();
    expect(replayed().length).toBeLessThan(EVENTS);
    await both.startWorker();
    const ended = await eventually(async () => {
      const { body } = await app.call<{ data: { status: string; replayed: number; attempt: number } }>(
        'GET',
        `/api/v1/events/replay/${started.body.data.replay_id}`,
        { key },
      );
      return ['completed', 'failed', 'cancelled'].includes(body.data.status) && body.data;
    }, 120_000);
    expect(ended).toMatchObject({ status: 'completed', replayed: EVENTS });
    await eventually(() => new Set(replayed()).size === EVENTS, 60_000);
    expect(new Set(replayed())).toEqual(emitted);
    // It did not begin anew: only what was on its way at the kill came twice.
    expect(replayed().length).toBeLessThan(EVENTS + EVENTS / 4);
  },
);
