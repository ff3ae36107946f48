import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { LinkClient } from '../agents/link-client.js';
import { actor } from '../support/actors.js';
import { startTestApp, type TestApp } from '../support/app.js';

let app: TestApp;
let key: string;
let link: LinkClient;

beforeAll(async () => {
  app = await startTestApp();
  ({ key } = await actor(app));
  const agent = await app.call<{ api_key: string }>('POST', '/api/v1/ai/agents', {
    key,
    body: { agent_name: 'host-1', agent_type: 'host', capabilities: [], version: '1.0.0' },
  });
  expect(agent.status).toBe(201);
  link = await LinkClient.welcomed(app.url, agent.body.api_key, { hostname: 'host-1' });
});
afterAll(async () => {
  link.close();
  await app.stop();
});

const [first, second, third] = [randomUUID(), randomUUID(), randomUUID()];
const event = (over: object = {}): object => ({
  event_id: randomUUID(),
  event_type: 'system.metric',
  source: 'host-1',
  timestamp: new Date().toISOString(),
  data: { metric_name: 'cpu', value: 1 },
  ...over,
});

it('acknowledges the telemetry of an agent once it is stored, and a resend as duplicates', async () => {
  const events = [event(), event({ source: 'someone-else' }), event()];
  link.send({ type: 'telemetry', batch_id: first, events });
  const ack = await link.received('telemetry_ack');
  expect(ack).toMatchObject({ batch_id: first, accepted: 2, duplicates: 0, rejected: [{ index: 1 }] });
  link.frames.length = 0;
  link.send({ type: 'telemetry', batch_id: first, events });
  expect(await link.received('telemetry_ack')).toMatchObject({ batch_id: first, accepted: 2, duplicates: 2 });
  const list = await app.call('GET', '/api/v1/telemetry/events?source=host-1', { key });
  expect(list.body).toMatchObject({ pagination: { total: 2 } });
});

it('warns of a metric that is stored and is not a point of a series', async () => {
  link.frames.length = 0;
  link.send({
    type: 'telemetry',
    batch_id: third,
    events: [event(), event({ data: { metric_name: 'cpu', value: '1' } })],
  });
  const ack = await link.received('telemetry_ack');
  expect(ack).toMatchObject({ batch_id: third, accepted: 2, rejected: [] });
  expect(ack.warnings).toEqual([{ index: 1, issue: expect.stringContaining('data.value is a string') as string }]);
});

it('rejects for good what can never be stored', async () => {
  link.frames.length = 0;
  link.send({ type: 'telemetry', batch_id: second, events: [event({ timestamp: '1969-01-01T00:00:00Z' })] });
  const ack = await link.received('telemetry_ack');
  expect(ack).toMatchObject({ batch_id: second, accepted: 0 });
  expect(ack.rejected).toEqual([
    { index: 0, issue: expect.stringContaining('timestamp must not be before 1970') as string },
  ]);
});
