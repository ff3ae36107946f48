import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { actor } from '../support/actors.js';
import { eventually, startTestApp, type TestApp } from '../support/app.js';
import { FakeAgent, registerAgent, type RegisteredAgent } from '../support/fake-agent.js';
import { payloadOf, Receiver } from '../webhooks/receiver.js';
import { type Alert, PATIENT_MS, RAISED, RESOLVED, type Rule } from './harness.js';

vi.setConfig({ testTimeout: 4 * PATIENT_MS });

let app: TestApp;
let receiver: Receiver;
let ops: string;

beforeAll(async () => {
  app = await startTestApp({ NEXUS_EGRESS_ALLOW: '127.0.0.1' });
  receiver = await Receiver.start();
  ops = (await actor(app)).key;
  const { status } = await app.call('POST', '/api/v1/webhooks', {
    key: ops,
    body: { url: receiver.url('/alerts'), events: ['command.failed', 'telemetry.alert', 'telemetry.alert.resolved'] },
  });
  expect(status).toBe(201);
});
afterAll(async () => {
  await receiver.stop();
  await app.stop();
});

async function monitoringAgent(): Promise<{ agent: RegisteredAgent; fake: FakeAgent }> {
  const agent = await registerAgent(app, ops, { labels: { environment: 'production' } });
  const fake = await FakeAgent.connect(app.url, agent, { commands: [{ type: 'restart' }] }, (one, { command_id }) =>
    one.execute(command_id, 'restarted'),
  );
  return { agent, fake };
}

async function report(fake: FakeAgent, value: number): Promise<void> {
  const batchId = randomUUID();
  fake.send({
    type: 'telemetry',
    batch_id: batchId,
    events: [
      {
        event_id: randomUUID(),
        event_type: 'system.metric',
        source: fake.agent.name,
        timestamp: new Date().toISOString(),
        data: { metric_name: 'cpu_usage', value, unit: 'percent', tags: { host: fake.agent.name } },
      },
    ],
  });
  await fake.received('telemetry_ack', ({ batch_id }) => batch_id === batchId);
}

async function rule(source: string, more: object = {}): Promise<Rule> {
  const { status, body } = await app.call<Rule>('POST', '/api/v1/telemetry/rules', {
    key: ops,
    body: {
      name: 'High CPU usage',
      severity: 'critical',
      event_type: 'system.metric',
      metric_name: 'cpu_usage',
      operator: 'gt',
      threshold: 90,
      sources: [source],
      ...more,
    },
  });
  expect(status).toBe(201);
  return body;
}

/** What the alert system was told of a source. */
function heard(type: string, source: string) {
  return receiver.received.map(payloadOf).filter((payload) => payload.type === type && payload.data.source === source);
}

async function completed(commandId: string): Promise<void> {
  await eventually(async () => {
    const { body } = await app.call('GET', `/api/v1/commands/${commandId}`, { key: ops });
    return body.status === 'completed';
  }, PATIENT_MS);
}

it('high CPU usage reaches the alert system, a restart is executed, and normal CPU usage resolves the alert', async () => {
  const { agent, fake } = await monitoringAgent();
  const { rule_id } = await rule(agent.name);
  await report(fake, 97.5);
  const [raised] = await eventually(() => {
    const found = heard(RAISED, agent.name);
    return found.length > 0 && found;
  }, PATIENT_MS);
  expect(raised.data).toMatchObject({ rule_id, severity: 'critical', status: 'active', value: 97.5, unit: 'percent' });
  const { body: command } = await app.call<{ command_id: string }>('POST', '/api/v1/commands', {
    key: ops,
    body: { command_type: 'restart', target: agent.name, parameters: { reason: raised.data.message } },
  });
  await completed(command.command_id);
  await report(fake, 35);
  await eventually(() => heard(RESOLVED, agent.name).length > 0, PATIENT_MS);
  const [resolved] = heard(RESOLVED, agent.name);
  expect(resolved.data).toMatchObject({ alert_id: raised.data.alert_id, status: 'cleared', clear_reason: 'condition' });
  expect(heard(RAISED, agent.name)).toHaveLength(1);
  expect(heard(RESOLVED, agent.name)).toHaveLength(1);
  await fake.close();
});

it('a webhook for telemetry.alert alone hears the end under that type, one that names both types each once', async () => {
  const { agent, fake } = await monitoringAgent();
  const register = async (path: string, events: string[]): Promise<string> => {
    const body = { url: receiver.url(path), events };
    return (await app.call<{ webhook_id: string }>('POST', '/api/v1/webhooks', { key: ops, body })).body.webhook_id;
  };
  const general = await register('/general', ['telemetry.alert']);
  await register('/wildcard', ['telemetry.*']);
  await register('/ends', ['telemetry.alert.resolved']);
  await rule(agent.name, { actions: [{ type: 'webhook', webhook_id: general }] });
  const told = (path: string): (string | undefined)[][] =>
    receiver.received
      .filter((one) => one.path === path)
      .map((one) => ({ ...payloadOf(one), header: one.headers['x-nexus-event'] }))
      .filter(({ data }) => data.source === agent.name)
      .map(({ type, event_type, header, data }) => [type, event_type, String(header), data.state as string]);
  await report(fake, 99);
  await eventually(() => told('/general').length === 1 && told('/wildcard').length === 1, PATIENT_MS);
  await report(fake, 12);
  await eventually(() => [told('/general'), told('/wildcard'), told('/ends')].flat().length === 5, PATIENT_MS);
  const raised = [RAISED, RAISED, RAISED, 'active'];
  const resolved = [RESOLVED, RESOLVED, RESOLVED, 'resolved'];
  expect(told('/general')).toEqual([raised, [RAISED, RAISED, RAISED, 'resolved']]);
  expect(told('/wildcard')).toEqual([raised, resolved]);
  expect(told('/ends')).toEqual([resolved]);
  await fake.close();
});

it('the rule itself can tell one webhook, of the end as well, though it is registered for something else', async () => {
  const { agent, fake } = await monitoringAgent();
  const { body: webhook } = await app.call<{ webhook_id: string }>('POST', '/api/v1/webhooks', {
    key: ops,
    body: { url: receiver.url('/on-duty'), events: ['task.completed'] },
  });
  await rule(agent.name, { actions: [{ type: 'webhook', webhook_id: webhook.webhook_id }] });
  await report(fake, 99);
  const onDuty = (): string[] =>
    receiver.received.filter((one) => one.path === '/on-duty').map((one) => payloadOf(one).type);
  await eventually(() => onDuty().includes(RAISED), PATIENT_MS);
  await report(fake, 12);
  await eventually(() => onDuty().includes(RESOLVED), PATIENT_MS);
  expect(onDuty()).toEqual([RAISED, RESOLVED]);
  const { body } = await app.call<{ alerts: Alert[] }>('GET', `/api/v1/telemetry/alerts?source=${agent.name}`, {
    key: ops,
  });
  expect(body.alerts[0].actions).toEqual([{ type: 'webhook', webhook_id: webhook.webhook_id }]);
  const unknown = await app.call('POST', '/api/v1/telemetry/rules', {
    key: ops,
    body: {
      name: 'wrong',
      metric_name: 'cpu_usage',
      operator: 'gt',
      threshold: 1,
      actions: [{ type: 'webhook', webhook_id: `webhook_${randomUUID()}` }],
    },
  });
  expect(unknown.status).toBe(400);
  expect(unknown.text).toContain('actions.0.webhook_id');
  await fake.close();
});

it('the rule itself can command the restart, once per alert, with what it knows filled in', async () => {
  const { agent, fake } = await monitoringAgent();
  await rule(agent.name, {
    actions: [
      {
        type: 'command',
        command_type: 'restart',
        target: '{{source}}',
        parameters: { reason: '{{rule_name}} on {{tag.host}}', value: '{{value}}' },
      },
      { type: 'command', command_type: 'restart', target: 'nobody-{{severity}}' },
      { type: 'event' },
    ],
  });
  await report(fake, 99);
  await report(fake, 98);
  const alert = await eventually(async () => {
    const { body } = await app.call<{ alerts: Alert[] }>('GET', `/api/v1/telemetry/alerts?source=${agent.name}`, {
      key: ops,
    });
    return body.alerts.find(({ actions }) => actions.length === 3);
  }, PATIENT_MS);
  expect(alert.actions[1].error).toContain('not found');
  expect(alert.actions[2]).toEqual({ type: 'event' });
  await completed(String(alert.actions[0].command_id));
  expect(fake.commands).toHaveLength(1);
  expect(fake.commands[0].parameters).toEqual({ reason: `High CPU usage on ${agent.name}`, value: 99 });
  const exceeded = await app.db.query(
    `SELECT 1 FROM events WHERE type = 'metric.threshold_exceeded' AND data->>'alert_id' = $1`,
    [alert.alert_id],
  );
  expect(exceeded).toHaveLength(1);
  await fake.close();
});

it('a source cannot make a rule command others', async () => {
  const { agent, fake } = await monitoringAgent();
  const source = 'label:environment=production';
  await rule(source, { actions: [{ type: 'command', command_type: 'restart', target: '{{source}}' }] });
  await app.call('POST', '/api/v1/telemetry/events', {
    key: ops,
    body: { event_type: 'system.metric', source, data: { metric_name: 'cpu_usage', value: 99 } },
  });
  const alert = await eventually(async () => {
    const { body } = await app.call<{ alerts: Alert[] }>('GET', `/api/v1/telemetry/alerts?source=${source}`, {
      key: ops,
    });
    return body.alerts.find(({ actions }) => actions.length === 1);
  }, PATIENT_MS);
  expect(alert.actions[0].error).toContain('{{source}}');
  expect(fake.commands).toEqual([]);
  expect(agent.name).not.toBe(source);
  await fake.close();
});
