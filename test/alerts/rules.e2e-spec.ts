import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { AlertWriter } from '../../src/alerts/alert-writer.js';
import { OwnerRights } from '../../src/platform/ownership/index.js';
import { actor } from '../support/actors.js';
import { eventually } from '../support/eventually.js';
import { registerAgent } from '../support/fake-agent.js';
import { AlertBench, PATIENT_MS, RAISED, RESOLVED, type Rule } from './harness.js';

vi.setConfig({ testTimeout: 4 * PATIENT_MS });

let bench: AlertBench;
const base = { name: 'CPU', metric_name: 'cpu_usage', operator: 'gt', threshold: 90 };

beforeAll(async () => {
  bench = await AlertBench.start({ NEXUS_ALERT_MAX_RULES: '12', NEXUS_ALERT_MAX_GROUPS: '2' });
});
afterAll(() => bench.stop());

async function remove({ rule_id }: Rule): Promise<void> {
  expect((await bench.call('DELETE', `/rules/${rule_id}`)).status).toBe(200);
}

describe('rules', () => {
  it('are created, shown, replaced at the version somebody has read, and deleted', async () => {
    const created = await bench.call<Rule>('POST', '/rules', base);
    expect(created.status).toBe(201);
    expect(created.headers.get('etag')).toBe('"v1"');
    expect(created.body).toMatchObject({ version: 1, enabled: true, severity: 'warning', group_by: ['source'] });
    const path = `/rules/${created.body.rule_id}`;
    const shown = await bench.call<Record<string, unknown>>('GET', path);
    const {
      rule_id: _id,
      version: _version,
      created_by: _by,
      updated_by: _too,
      created_at: _at,
      updated_at: _then,
      ...writable
    } = shown.body;
    const replace = (tag: string) =>
      bench.app.call<Rule>('PUT', `/api/v1/telemetry${path}`, {
        key: bench.key,
        body: { ...writable, severity: 'critical' },
        headers: { 'if-match': tag },
      });
    expect((await replace('"v1"')).body).toMatchObject({ version: 2, severity: 'critical', condition: null });
    expect((await replace('"v1"')).status).toBe(412);
    expect((await bench.call('DELETE', path)).body).toEqual({ rule_id: created.body.rule_id, status: 'deleted' });
    expect((await bench.call('GET', path)).status).toBe(404);
    expect((await bench.call('PUT', path, base)).status).toBe(404);
  });

  it.each(Object.entries({ '>': 'gt', '>=': 'gte', '<': 'lt', '<=': 'lte', '=': 'eq', '!=': 'ne' }))(
    'take %s as %s, also where they clear',
    async (operator, word) => {
      const created = await bench.call<Rule>('POST', '/rules', {
        ...base,
        operator,
        clear: { operator, threshold: 70 },
      });
      expect(created.status).toBe(201);
      expect(created.body).toMatchObject({ operator: word, clear: { operator: word } });
      await remove(created.body);
    },
  );

  it('are listed with filters, page by page', async () => {
    const rules: Rule[] = [];
    for (const n of [1, 2, 3]) {
      rules.push(await bench.rule(bench.source(), { name: `listed ${n}`, metric_name: 'listed' }));
    }
    type List = { rules: Rule[]; pagination: { total: number; next_cursor: string | null } };
    const first = await bench.call<List>('GET', '/rules?metric_name=listed&limit=2');
    expect(first.body.pagination.total).toBe(3);
    expect(first.body.rules.map(({ name }) => name)).toEqual(['listed 3', 'listed 2']);
    const cursor = String(first.body.pagination.next_cursor);
    const second = await bench.call<List>('GET', `/rules?metric_name=listed&limit=2&cursor=${cursor}`);
    expect(second.body.rules.map(({ name }) => name)).toEqual(['listed 1']);
    expect((await bench.call<List>('GET', '/rules?metric_name=listed&enabled=false')).body.rules).toEqual([]);
    for (const bad of ['limit=0', 'limit=101', 'enabled=maybe', 'severity=bad', 'cursor=W10', 'who=me']) {
      expect((await bench.call('GET', `/rules?${bad}`)).status, bad).toBe(400);
    }
    for (const rule of rules) await remove(rule);
  });

  it.each([
    ['condition', { ...base, condition: 'value > 1.0' }],
    ['condition', { name: 'none' }],
    ['operator', { ...base, operator: undefined }],
    ['operator', { ...base, operator: 'above' }],
    ['threshold', { ...base, threshold: 'much' }],
    ['metric_name', { ...base, metric_name: undefined }],
    ['times', { ...base, times: 3, for_seconds: 10 }],
    ['for_seconds', { name: 'silent', absent_for_seconds: 60, for_seconds: 5 }],
    ['clear', { ...base, clear: {} }],
    ['clear.condition', { ...base, clear: { condition: 'value <' } }],
    ['tags.a', { ...base, tags: { a: 1 } }],
    ['group_by', { ...base, group_by: ['value'] }],
    ['sources', { ...base, sources: [''] }],
    ['actions.0.type', { ...base, actions: [{ type: 'task', title: 'Look' }] }],
    ['actions.0.command_type', { ...base, actions: [{ type: 'command', target: 'web-1' }] }],
    ['actions.0.target', { ...base, actions: [{ type: 'event', target: 'web-1' }] }],
    ['name', { ...base, name: ' ' }],
    ['colour', { ...base, colour: 'red' }],
  ])('are refused with the name of the wrong field: %s', async (field, body) => {
    const { status, body: refusal } = await bench.call<Rule>('POST', '/rules', body);
    expect(status).toBe(400);
    expect(refusal.error.details.map((issue) => issue.field)).toContain(field);
  });

  it.each([
    ['value >', 8, 'Unexpected'],
    ['event_type == "a" && valu > 1.0', 22, 'Unknown variable'],
    ['value + 1.0', 1, 'true or false'],
    ['data.items.exists(i, i > 1)', 1, 'exists'],
    ['source.matches("(a+)+$")', 1, 'matches'],
    ['[1, 2].map(x, x).size() > 1', 1, 'map'],
    [`source${'.trim()'.repeat(11)} == ""`, 1, 'more than 10 functions on texts'],
  ])('say where an expression is wrong: %s', async (condition, position, words) => {
    const { status, body } = await bench.call<Rule>('POST', '/rules', { name: 'x', event_type: 'e', condition });
    expect(status).toBe(400);
    expect(body.error.details[0].field).toBe('condition');
    expect(body.error.details[0].issue).toContain(words);
    expect(body.error.details[0].issue).toContain(`at character ${position}`);
  });

  it('judge an event without storing anything', async () => {
    const judge = async (value: number, rule: object = base) =>
      (
        await bench.call('POST', '/rules/test', {
          rule,
          event: { event_type: 'system.metric', source: 'trial', data: { metric_name: 'cpu_usage', value } },
        })
      ).body;
    expect(await judge(95)).toEqual({ concerned: true, verdict: 'breach', group: { source: 'trial' } });
    expect(await judge(50)).toMatchObject({ verdict: 'clear' });
    expect(await judge(80, { ...base, clear: { threshold: 70 } })).toMatchObject({ verdict: 'between' });
    expect(await judge(95, { ...base, sources: ['web-*'] })).toEqual({ concerned: false, verdict: null, group: null });
    expect((await bench.call('POST', '/rules/test', { rule: base, event: {} })).status).toBe(400);
    expect((await bench.call('POST', '/rules/test', { event: {} })).status).toBe(400);
    expect(await bench.alerts('trial')).toEqual([]);
  });

  it('are written by those who may, and do nothing their author may not do', async () => {
    const operator = await actor(bench.app, { role: 'operator' });
    const narrow = await actor(bench.app, { scopes: ['telemetry:admin', 'telemetry:read'] });
    const command = { ...base, actions: [{ type: 'command', command_type: 'system.ping', target: '{{source}}' }] };
    expect((await bench.call('POST', '/rules', base, operator.key)).status).toBe(403);
    expect((await bench.call('GET', '/rules', undefined, operator.key)).status).toBe(200);
    expect((await bench.call('POST', '/rules', command, narrow.key)).status).toBe(403);
    const rule = await bench.call<Rule>('POST', '/rules', base, narrow.key);
    expect(rule.status).toBe(201);
    expect((await bench.call('PUT', `/rules/${rule.body.rule_id}`, command, narrow.key)).status).toBe(403);
    await remove(rule.body);
    const agent = await registerAgent(bench.app, bench.key);
    expect((await bench.call('GET', '/rules', undefined, agent.key)).status).toBe(403);
    expect((await bench.call('GET', '/silences', undefined, agent.key)).status).toBe(403);
    expect((await bench.call('GET', '/alerts', undefined, agent.key)).status).toBe(200);
  });

  it('go on raising alerts when their owner lost rights, without the actions that need these', async () => {
    const owner = await actor(bench.app);
    const webhook = await bench.app.call<{ webhook_id: string }>('POST', '/api/v1/webhooks', {
      key: bench.key,
      body: { url: 'https://example.com/hook', events: ['task.completed'] },
    });
    const { webhook_id } = webhook.body;
    const source = bench.source();
    const actions = [
      { type: 'command', command_type: 'system.ping', target: 'nexus' },
      { type: 'webhook', webhook_id },
    ];
    const body = { ...base, sources: [source], actions };
    const { rule_id } = (await bench.call<Rule>('POST', '/rules', body, owner.key)).body;
    const shown = async (): Promise<Rule> => (await bench.call<Rule>('GET', `/rules/${rule_id}`)).body;
    expect(await shown()).not.toHaveProperty('suspended_actions');
    await bench.app.call('DELETE', `/api/v1/auth/api-keys/key_${owner.keyId}`, { key: bench.key });
    await eventually(async () => (await shown()).version === 2, PATIENT_MS);
    expect(await shown()).toMatchObject({ enabled: true, suspended_actions: ['command', 'webhook'] });
    await bench.send(source, 95);
    const alert = await eventually(async () => {
      const [found] = await bench.alerts(source);
      return found?.actions.length === 2 && found;
    }, PATIENT_MS);
    for (const action of alert.actions) expect(action.error).toContain('lost the right');
    expect(await bench.app.db.query(`SELECT 1 FROM commands WHERE created_by = $1`, [rule_id])).toEqual([]);
    await bench.call('PUT', `/rules/${rule_id}`, body);
    expect(await shown()).not.toHaveProperty('suspended_actions');
    await remove(await shown());
    await bench.app.call('DELETE', `/api/v1/webhooks/${webhook_id}`, { key: bench.key });
  });

  it('command only what is left to their owner', async () => {
    const owner = await actor(bench.app, { role: 'admin' });
    const actions = [{ type: 'command', command_type: 'system.ping', target: '{{source}}' }];
    const { rule_id } = (await bench.call<Rule>('POST', '/rules', { ...base, actions }, owner.key)).body;
    const labels = async (): Promise<unknown> => {
      const [row] = await bench.app.db.query<{ target_labels: unknown; suspended_actions: string[] }>(
        'SELECT target_labels, suspended_actions FROM alert_rules WHERE id = $1',
        [rule_id.slice('rule_'.length)],
      );
      return row;
    };
    for (const [role, expected] of [
      ['developer', { target_labels: { env: 'development' }, suspended_actions: [] }],
      ['admin', { target_labels: { env: 'development' }, suspended_actions: [] }],
      ['viewer', { target_labels: { env: 'development' }, suspended_actions: ['command'] }],
    ] as const) {
      await bench.app.db.query('UPDATE users SET roles = $2 WHERE id = $1', [owner.userId, [role]]);
      await bench.app.get(OwnerRights).sweep();
      expect(await labels()).toEqual(expected);
    }
    await bench.call('DELETE', `/rules/${rule_id}`);
  });

  it('end their alerts when they are deleted, disabled or grouped otherwise, and keep them through other changes', async () => {
    const ended = async (change: (rule: Rule, source: string) => Promise<unknown>, reason: string) => {
      const source = bench.source();
      const rule = await bench.rule(source);
      await bench.send(source, 95);
      await bench.until(source, { status: 'active' });
      await change(rule, source);
      await bench.until(source, { status: 'cleared', clear_reason: reason });
      expect(await bench.told(source)).toEqual([RAISED, RESOLVED]);
      return rule;
    };
    const put = ({ rule_id }: Rule, source: string, more: object) =>
      bench.call('PUT', `/rules/${rule_id}`, { ...base, sources: [source], ...more });
    await ended((rule) => remove(rule), 'rule_deleted');
    await remove(await ended((rule, source) => put(rule, source, { enabled: false }), 'rule_disabled'));
    for (const change of [
      { group_by: [] },
      { metric_name: 'memory' },
      { tags: { disk: 'a' } },
      { sources: ['other-*'] },
    ]) {
      await remove(await ended((rule, source) => put(rule, source, change), 'rule_changed'));
    }
    const wider = await ended(async (rule, source) => {
      expect((await put(rule, source, { sources: [`${source.slice(0, -1)}*`, 'other-*'] })).status).toBe(200);
      await bench.send(source, 96);
      await bench.until(source, { status: 'active', count: 2 });
      await bench.send(source, 75);
    }, 'condition');
    await remove(wider);
    const kept = await ended(async (rule, source) => {
      expect((await put(rule, source, { threshold: 80 })).status).toBe(200);
      await bench.send(source, 85);
      await bench.until(source, { status: 'active', count: 2 });
      await bench.send(source, 75);
    }, 'condition');
    await remove(kept);
  });

  it('open no more groups than are allowed', async () => {
    const rule = await bench.rule('crowd-*');
    for (const n of [1, 2, 3]) {
      await bench.send(`crowd-${n}`, 95);
      if (n < 3) await bench.until(`crowd-${n}`, { status: 'active' });
    }
    await bench.send('crowd-1', 96);
    await bench.until('crowd-1', { count: 2 });
    expect(await bench.alerts('crowd-3')).toEqual([]);
    await remove(rule);
  });

  it('spend nothing on groups past what is allowed until one of the others ends', async () => {
    const source = bench.source();
    const rule = await bench.rule(source, { group_by: ['tag.disk'] });
    const apply = vi.spyOn(bench.app.get(AlertWriter), 'apply');
    const written = (): string[] => apply.mock.calls.flatMap(([works]) => works.map(({ groupKey }) => groupKey));
    const send = async (disks: number[]): Promise<void> => {
      const events = disks.map((disk) => ({
        event_type: 'system.metric',
        source,
        data: { metric_name: 'cpu_usage', value: 95, tags: { disk: `${disk}` } },
      }));
      expect((await bench.call('POST', '/batch', { events })).status).toBe(202);
    };
    await send(Array.from({ length: 600 }, (_, disk) => disk));
    await eventually(async () => (await bench.alerts(source)).length === 2, PATIENT_MS);
    await eventually(async () => {
      const states = await bench.app.db.query<{ recheck_at: Date | null }>(
        `SELECT recheck_at FROM alert_states WHERE rule_id::text = replace($1, 'rule_', '')`,
        [rule.rule_id],
      );
      return states.length === 2 && states.every(({ recheck_at }) => recheck_at === null);
    }, PATIENT_MS);
    expect(written()).toHaveLength(600);
    const open = (await bench.alerts(source)).map(({ group }) => Number(group['tag.disk']));
    const others = Array.from({ length: 600 }, (_, disk) => disk).filter((disk) => !open.includes(disk));
    await send(others);
    expect(written()).toHaveLength(600);

    await bench.send(source, 10, { tags: { disk: `${open[0]}` } });
    await eventually(async () => (await bench.alerts(source, '&status=cleared')).length === 1, PATIENT_MS);
    await send([others[0]]);
    await eventually(async () => (await bench.alerts(source, '&status=active')).length === 2, PATIENT_MS);
    apply.mockRestore();
    await remove(rule);
  });

  it('are no more than are allowed', async () => {
    const rules: Rule[] = [];
    for (;;) {
      const { status, body } = await bench.call<Rule>('POST', '/rules', base);
      if (status !== 201) {
        expect(status).toBe(409);
        break;
      }
      rules.push(body);
    }
    expect(rules.length).toBe(12);
    for (const rule of rules) await remove(rule);
  });
});
