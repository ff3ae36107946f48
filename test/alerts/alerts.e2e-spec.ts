import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { eventually } from '../support/app.js';
import { type Alert, AlertBench, PATIENT_MS, RAISED, RESOLVED, type Rule } from './harness.js';

vi.setConfig({ testTimeout: 4 * PATIENT_MS });

let bench: AlertBench;

beforeAll(async () => {
  bench = await AlertBench.start();
});
afterAll(() => bench.stop());

describe('an alert', () => {
  it('is raised once while the condition holds, and cleared once, each told by an event', async () => {
    const source = bench.source();
    await bench.rule(source, { severity: 'critical' });
    await bench.send(source, 50);
    await bench.send(source, 95);
    const raised = await bench.until(source, { status: 'active' });
    expect(raised).toMatchObject({ value: 95, severity: 'critical', group: { source }, acknowledged: false });
    await bench.send(source, 97);
    await bench.send(source, 99);
    await bench.until(source, { count: 3, last_value: 99 });
    await bench.send(source, 40);
    const cleared = await bench.until(source, { status: 'cleared' });
    expect(cleared).toMatchObject({ alert_id: raised.alert_id, clear_reason: 'condition', last_value: 40 });
    expect(await bench.told(source)).toEqual([RAISED, RESOLVED]);
    await bench.send(source, 96);
    const second = await bench.until(source, { status: 'active' });
    expect(second.alert_id).not.toBe(raised.alert_id);
    expect(await bench.told(source)).toEqual([RAISED, RESOLVED, RAISED]);
  });

  it('waits for the condition to hold so many times in a row', async () => {
    const source = bench.source();
    await bench.rule(source, { times: 3 });
    for (const value of [95, 96, 50, 97, 98]) await bench.send(source, value);
    await bench.send(source, 99);
    await bench.until(source, { status: 'active', value: 99 });
    expect(await bench.told(source)).toEqual([RAISED]);
  });

  it('waits for the condition to hold so long, by the times of the events or by the clock', async () => {
    const [byEvents, byClock, broken] = [bench.source(), bench.source(), bench.source()];
    await bench.rule(byEvents, { for_seconds: 3600 });
    await bench.rule(byClock, { for_seconds: 1 });
    await bench.rule(broken, { for_seconds: 3600 });
    await bench.send(byEvents, 95, { at: 3700 });
    await bench.send(byEvents, 96);
    await bench.send(byClock, 97);
    await bench.send(broken, 95, { at: 3700 });
    await bench.send(broken, 50, { at: 1800 });
    await bench.send(broken, 95);
    await bench.until(byEvents, { status: 'active', value: 96 });
    await bench.until(byClock, { status: 'active', value: 97 });
    expect(await bench.alerts(broken)).toEqual([]);
  });

  it('is cleared by its own condition alone (hysteresis), held long enough', async () => {
    const source = bench.source();
    await bench.rule(source, { clear: { threshold: 70 }, clear_for_seconds: 1 });
    await bench.send(source, 95);
    await bench.send(source, 80);
    await bench.send(source, 71);
    await bench.until(source, { status: 'active' });
    await bench.send(source, 60);
    await bench.until(source, { status: 'cleared' });
    expect(await bench.told(source)).toEqual([RAISED, RESOLVED]);
    const [alert] = await bench.alerts(source);
    expect(alert.count).toBe(1);
  });

  it('lasts at least the flap window: a value that swings raises and clears once', async () => {
    const source = bench.source();
    await bench.rule(source, { flap_window_seconds: 5 });
    await bench.send(source, 95);
    const now = Date.now();
    const swings = [50, 96, 40, 97, 30].map((value, n) => ({
      event_type: 'system.metric',
      source,
      timestamp: new Date(now + n).toISOString(),
      data: { metric_name: 'cpu_usage', value },
    }));
    expect((await bench.call('POST', '/batch', { events: swings })).status).toBe(202);
    await bench.until(source, { status: 'cleared' });
    expect(await bench.told(source)).toEqual([RAISED, RESOLVED]);
    expect(await bench.alerts(source)).toHaveLength(1);
  });

  it('is one per group, by source and tags', async () => {
    const source = bench.source();
    await bench.rule(source, { group_by: ['source', 'tag.disk'] });
    await bench.send(source, 95, { tags: { disk: 'sda' } });
    await bench.send(source, 96, { tags: { disk: 'sdb' } });
    await bench.send(source, 20, { tags: { disk: 'sdc' } });
    await eventually(async () => (await bench.alerts(source, '&status=active')).length === 2, PATIENT_MS);
    await bench.send(source, 10, { tags: { disk: 'sda' } });
    const cleared = await eventually(async () => (await bench.alerts(source, '&status=cleared'))[0], PATIENT_MS);
    expect(cleared.group).toEqual({ source, 'tag.disk': 'sda' });
    expect(await bench.alerts(source, '&status=active')).toHaveLength(1);
  });

  it('comes from an expression over events that are no metric as well', async () => {
    const source = bench.source();
    const { rule_id } = await bench.rule(source, {
      metric_name: undefined,
      operator: undefined,
      threshold: undefined,
      event_type: 'service.state',
      condition: 'data.state == "down" && tags.environment == "production"',
    });
    const state = (word: string, environment = 'production') =>
      bench.submit({ event_type: 'service.state', source, data: { state: word, tags: { environment } } });
    await state('down', 'staging');
    await bench.submit({ event_type: 'service.state', source, data: {} });
    expect(await bench.alerts(source)).toEqual([]);
    await state('down');
    expect(await bench.until(source, { status: 'active' })).toMatchObject({ rule_id, value: null });
    await bench.submit({ event_type: 'service.state', source, data: {} });
    await state('up');
    await bench.until(source, { status: 'cleared' });
    expect(await bench.told(source)).toEqual([RAISED, RESOLVED]);
  });

  it('is neither raised nor cleared by events that lack the value an expression asks for', async () => {
    const [high, low] = [bench.source(), bench.source()];
    const of = { metric_name: undefined, operator: undefined, threshold: undefined, event_type: 'mixed.reading' };
    await bench.rule(high, { ...of, condition: 'value > 90.0' });
    await bench.rule(low, { ...of, condition: '!(value > 90.0)' });
    const reading = (source: string, data: object) => bench.submit({ event_type: 'mixed.reading', source, data });
    for (const source of [high, low]) await reading(source, { note: 'no value' });
    await reading(high, { metric_name: 'load', value: 95 });
    await bench.until(high, { status: 'active' });
    for (const data of [{ note: 'no value' }, { metric_name: 'load', value: 'high' }]) await reading(high, data);
    await reading(high, { metric_name: 'load', value: 96 });
    await bench.until(high, { status: 'active', count: 2, last_value: 96 });
    expect(await bench.told(high)).toEqual([RAISED]);
    expect(await bench.alerts(low)).toEqual([]);
  });

  it('is found by when it was raised, which needs a time zone', async () => {
    const source = bench.source();
    await bench.rule(source);
    await bench.send(source, 95);
    await bench.until(source, { status: 'active' });
    const hour = (n: number): string => encodeURIComponent(new Date(Date.now() + n * 3_600_000).toISOString());
    expect(await bench.alerts(source, `&from=${hour(-1)}&to=${hour(1)}`)).toHaveLength(1);
    expect(await bench.alerts(source, `&from=${hour(1)}`)).toEqual([]);
    expect(await bench.alerts(source, `&to=${hour(-1)}`)).toEqual([]);
    for (const time of ['2026-01-01T00:00:00', '2026-01-01', '2026-W10', 'yesterday']) {
      const { status, body } = await bench.call<Rule>('GET', `/alerts?from=${time}`);
      expect(status, time).toBe(400);
      expect(body.error.details).toMatchObject([{ field: 'from' }]);
    }
    expect((await bench.call('GET', `/alerts?from=${hour(1)}&to=${hour(-1)}`)).status).toBe(400);
  });

  it('is counted up to 10000, while all of them can be read', async () => {
    const source = bench.source();
    await bench.app.db.query(
      `INSERT INTO alerts (id, rule_id, group_id, rule_name, severity, condition, "grouping", source, tags, started_at,
                           status, cleared_at)
       SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'many', 'info', 'x', '{}', $1, '{}',
              now() - n * interval '1 second', 'cleared', now()
       FROM generate_series(1, 10001) AS n`,
      [source],
    );
    type Answer = { alerts: Alert[]; pagination: { total: number; total_is_exact: boolean; has_more: boolean } };
    const list = async (query: string): Promise<Answer> =>
      (await bench.call<Answer>('GET', `/alerts?source=${source}&limit=1${query}`)).body;
    expect((await list('')).pagination).toMatchObject({ total: 10_000, total_is_exact: false, has_more: true });
    expect(await list('&offset=10000')).toMatchObject({ alerts: [{ source }], pagination: { has_more: false } });
  });

  it('says which of its actions came to nothing, and why; the others are done', async () => {
    const source = bench.source();
    const webhook = await bench.app.call<{ webhook_id: string }>('POST', '/api/v1/webhooks', {
      key: bench.key,
      body: { url: 'https://example.com/hook', events: ['task.completed'] },
    });
    expect(webhook.status).toBe(201);
    const { webhook_id } = webhook.body;
    const command = { type: 'command', command_type: 'restart', target: 'nobody-of-that-name' };
    await bench.rule(source, { actions: [{ type: 'webhook', webhook_id }, command, { type: 'event' }] });
    await bench.app.call('DELETE', `/api/v1/webhooks/${webhook_id}`, { key: bench.key });
    await bench.send(source, 95);
    const { actions } = await eventually(async () => {
      const [alert] = await bench.alerts(source);
      return alert?.actions.length === 3 && alert;
    }, PATIENT_MS);
    expect(actions).toEqual([
      { type: 'webhook', error: 'The webhook is gone or not active' },
      { type: 'command', error: expect.stringContaining('not found') as string },
      { type: 'event' },
    ]);
    await eventually(async () => (await bench.told(source)).includes('metric.threshold_exceeded'), PATIENT_MS);
  });

  it('is not raised by what comes too late', async () => {
    const source = bench.source();
    await bench.rule(source);
    await bench.send(source, 50);
    await bench.send(source, 99, { at: 60 });
    await bench.send(source, 95);
    await bench.until(source, { status: 'active', value: 95 });
    await bench.send(source, 50, { at: 60 });
    await bench.send(source, 96);
    await bench.until(source, { count: 2, status: 'active' });
  });

  it('is raised when a source falls silent, and cleared when it is heard again', async () => {
    const source = bench.source();
    await bench.rule(source, { operator: undefined, threshold: undefined, absent_for_seconds: 5 });
    await bench.send(source, 50);
    const raised = await bench.until(source, { status: 'active' });
    expect(raised).toMatchObject({ value: null, group: { source } });
    await bench.send(source, 50);
    await bench.until(source, { status: 'cleared' });
    await eventually(async () => (await bench.told(source)).length === 3, PATIENT_MS);
    expect(await bench.told(source)).toEqual([RAISED, RESOLVED, RAISED]);
  });

  it('is raised when events of one type fail to appear, whatever else the source sends', async () => {
    const source = bench.source();
    const beat = (type: string) => bench.submit({ event_type: type, source, data: { state: 'fine' } });
    await beat('service.started');
    await bench.rule(source, {
      metric_name: undefined,
      operator: undefined,
      threshold: undefined,
      event_type: 'service.heartbeat',
      absent_for_seconds: 5,
    });
    await beat('service.heartbeat');
    await eventually(async () => {
      await beat('service.state');
      return (await bench.alerts(source)).length > 0;
    }, PATIENT_MS);
    await beat('service.heartbeat');
    await bench.until(source, { status: 'cleared' });
    expect((await bench.told(source)).slice(0, 2)).toEqual([RAISED, RESOLVED]);
  });

  it('comes of silence though another rule cannot be looked after', async () => {
    const source = bench.source();
    const absent = { operator: undefined, threshold: undefined, absent_for_seconds: 5 };
    const broken = await bench.rule(bench.source(), absent);
    await bench.app.db.query(
      `UPDATE alert_rules SET definition = definition || '{"absent_for_seconds": 1e300}', version = version + 1 WHERE id = $1`,
      [broken.rule_id.slice('rule_'.length)],
    );
    await bench.rule(source, absent);
    await bench.send(source, 50);
    await bench.until(source, { status: 'active' });
    expect((await bench.call('DELETE', `/rules/${broken.rule_id}`)).status).toBe(200);
  });

  it('is acknowledged and resolved by people, with notes; newer data raises it again', async () => {
    const source = bench.source();
    await bench.rule(source);
    await bench.send(source, 95);
    const { alert_id: id } = await bench.until(source, { status: 'active' });
    const first = await bench.call<Alert>('POST', `/alerts/${id}/ack`, { note: 'On it' });
    expect(first.body).toMatchObject({ acknowledged: true, status: 'active' });
    const again = await bench.call<Alert>('POST', `/alerts/${id}/ack`, {});
    expect(again.body).toMatchObject({ acknowledged: true, acknowledged_by: first.body.acknowledged_by });
    expect((await bench.alerts(source, '&acknowledged=false')).length).toBe(0);
    const resolved = await bench.call<Alert>('POST', `/alerts/${id}/resolve`, { note: 'Fixed' });
    expect(resolved.body).toMatchObject({ status: 'cleared', clear_reason: 'manual' });
    expect(resolved.body.notes.map(({ action, text }) => `${action}: ${text}`)).toEqual([
      'acknowledged: On it',
      'resolved: Fixed',
    ]);
    expect((await bench.call<Alert>('POST', `/alerts/${id}/resolve`, {})).body.status).toBe('cleared');
    expect(await bench.told(source)).toEqual([RAISED, RESOLVED]);
    await bench.send(source, 96);
    await bench.until(source, { status: 'active', value: 96 });
  });
});
