import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { eventually } from '../support/app.js';
import { AlertBench, PATIENT_MS, RAISED, RESOLVED } from './harness.js';

vi.setConfig({ testTimeout: 4 * PATIENT_MS });

let bench: AlertBench;

interface Silence {
  silence_id: string;
  status: string;
  error: { details: { field: string }[] };
}

beforeAll(async () => {
  bench = await AlertBench.start();
});
afterAll(() => bench.stop());

const inSeconds = (seconds: number): string => new Date(Date.now() + seconds * 1000).toISOString();

async function silence(matchers: object, more: object = {}): Promise<Silence> {
  const { status, body, text } = await bench.call<Silence>('POST', '/silences', {
    matchers,
    ends_at: inSeconds(3600),
    ...more,
  });
  expect(text).toContain('silence_id');
  expect(status).toBe(201);
  return body;
}

describe('a silence', () => {
  it('keeps an alert to itself until it ends, and then it is told', async () => {
    const source = bench.source();
    await bench.rule(source, { severity: 'high', actions: [{ type: 'event' }] });
    const { silence_id } = await silence({ sources: [`${source.slice(0, -1)}*`], severities: ['high'] });
    await bench.send(source, 95);
    await bench.until(source, { status: 'active', silenced: true });
    await bench.send(source, 96);
    await bench.until(source, { count: 2 });
    expect(await bench.told(source)).toEqual([]);
    expect((await bench.call('DELETE', `/silences/${silence_id}`)).status).toBe(200);
    await bench.until(source, { status: 'active', silenced: false });
    await bench.send(source, 10);
    await bench.until(source, { status: 'cleared' });
    const told = await eventually(async () => {
      const types = await bench.told(source);
      return types.length === 3 && types;
    }, PATIENT_MS);
    expect([...told].sort()).toEqual(['metric.threshold_exceeded', RAISED, RESOLVED]);
  });

  it('that outlasts the alert leaves nothing to tell', async () => {
    const source = bench.source();
    const { rule_id } = await bench.rule(source);
    await silence({ rule_ids: [rule_id] });
    await bench.send(source, 95);
    await bench.send(source, 10);
    await bench.until(source, { status: 'cleared', silenced: true });
    expect(await bench.told(source)).toEqual([]);
  });

  it('that ends is told of though hundreds of alerts stay silent', async () => {
    const name = bench.source();
    const [quiet, soon] = [`quiet-${name}`, `soon-${name}`];
    await bench.rule(`*-${name}-*`);
    await silence({ sources: [`${quiet}-*`] });
    const { silence_id } = await silence({ sources: [`${soon}-*`] });
    const sources = [
      ...Array.from({ length: 450 }, (_, n) => `${quiet}-${n}`),
      ...Array.from({ length: 8 }, (_, n) => `${soon}-${n}`),
    ];
    const events = sources.map((source) => ({
      event_type: 'system.metric',
      source,
      data: { metric_name: 'cpu_usage', value: 95 },
    }));
    expect((await bench.call('POST', '/batch', { events })).status).toBe(202);
    const open = async (silenced: boolean): Promise<number> => {
      const [{ n }] = await bench.app.db.query<{ n: number }>(
        `SELECT count(*)::int AS n FROM alerts WHERE status = 'active' AND source LIKE $1 AND silenced = $2`,
        [`%-${name}-%`, silenced],
      );
      return n;
    };
    await eventually(async () => (await open(true)) === sources.length, PATIENT_MS);
    expect((await bench.call('DELETE', `/silences/${silence_id}`)).status).toBe(200);
    await eventually(async () => (await open(false)) === 8, PATIENT_MS);
    expect(await bench.told(`${soon}-7`)).toEqual([RAISED]);
    expect(await open(true)).toBe(450);
  });

  it('is about the alerts it fits, in its time', async () => {
    const source = bench.source();
    const { rule_id } = await bench.rule(source);
    await silence({ rule_ids: [rule_id], tags: { environment: 'staging' } });
    await silence({ rule_ids: [rule_id] }, { starts_at: inSeconds(1800) });
    await silence({ rule_ids: [rule_id] }, { ends_at: inSeconds(1) });
    await eventually(async () => {
      const { body } = await bench.call<{ silences: Silence[] }>('GET', '/silences?status=expired');
      return body.silences.length > 0;
    }, PATIENT_MS);
    await bench.send(source, 95);
    await bench.until(source, { status: 'active', silenced: false });
    expect(await bench.told(source)).toEqual([RAISED]);
  });

  it('is listed, shown and refused when it makes no sense', async () => {
    const { silence_id } = await silence({ severities: ['info'] }, { comment: 'Works', starts_at: inSeconds(600) });
    const shown = await bench.call<Silence>('GET', `/silences/${silence_id}`);
    expect(shown.body).toMatchObject({ status: 'pending', comment: 'Works' });
    const pending = await bench.call<{ silences: Silence[] }>('GET', '/silences?status=pending&limit=1');
    expect(pending.body.silences.map((one) => one.silence_id)).toEqual([silence_id]);
    for (const [field, body] of [
      ['matchers', { matchers: {}, ends_at: inSeconds(60) }],
      ['matchers', { ends_at: inSeconds(60) }],
      ['ends_at', { matchers: { severities: ['info'] }, ends_at: inSeconds(-60) }],
      ['ends_at', { matchers: { severities: ['info'] }, ends_at: 'tomorrow' }],
      ['ends_at', { matchers: { severities: ['info'] }, ends_at: inSeconds(60).slice(0, -1) }],
      ['starts_at', { matchers: { severities: ['info'] }, starts_at: '2026-W10', ends_at: inSeconds(60) }],
      ['ends_at', { matchers: { severities: ['info'] }, starts_at: inSeconds(90), ends_at: inSeconds(60) }],
      ['matchers.tags', { matchers: { tags: { a: 1 } }, ends_at: inSeconds(60) }],
      ['matchers.rule_ids', { matchers: { rule_ids: ['x'] }, ends_at: inSeconds(60) }],
    ] as const) {
      const { status, body: refusal } = await bench.call<Silence>('POST', '/silences', body);
      expect(status).toBe(400);
      expect(refusal.error.details.map((issue) => issue.field)).toContain(field);
    }
    expect((await bench.call('DELETE', `/silences/${silence_id}`)).status).toBe(200);
    expect((await bench.call('GET', `/silences/${silence_id}`)).status).toBe(404);
  });
});
