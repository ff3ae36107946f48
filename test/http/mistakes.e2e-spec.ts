import http from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { actor } from '../support/actors.js';
import { type Answer, startTestApp, type TestApp } from '../support/app.js';

interface Refusal {
  success: false;
  request_id: string;
  timestamp: string;
  error: { code: string; message: string; request_id: string; details: Record<string, unknown> };
}

/** A rule that lacks nothing. */
const RULE = { name: 'hot', metric_name: 'cpu', operator: 'gt', threshold: 1 };
const CODES: Record<number, string> = { 404: 'RESOURCE_NOT_FOUND', 405: 'METHOD_NOT_ALLOWED', 426: 'UPGRADE_REQUIRED' };

let app: TestApp;
let key: string;

beforeAll(async () => {
  app = await startTestApp({ NEXUS_EGRESS_ALLOW: '127.0.0.1' });
  ({ key } = await actor(app));
});
afterAll(() => app.stop());

const ask = (method: string, path: string, options = {}): Promise<Answer<Refusal>> =>
  app.call<Refusal>(method, path, options);

function expectRefusal(answer: Answer<Refusal>, expected: number, code = CODES[expected]): void {
  const { status, headers, body, text } = answer;
  expect([status, body.error?.code], text).toEqual([expected, code]);
  const id = headers.get('x-request-id');
  expect(body).toMatchObject({ success: false, request_id: id, error: { request_id: id } });
  expect(headers.get('content-type')).toBe('application/json; charset=utf-8');
}

describe('a method that a path does not take', () => {
  it.each([
    ['POST', '/health', 'GET, HEAD'],
    ['DELETE', '/metrics', 'GET, HEAD'],
    ['GET', '/api/v1/telemetry/batch', 'POST'],
    ['PUT', '/api/v1/telemetry/events', 'GET, HEAD, POST'],
    ['PATCH', '/API/V1/telemetry/batch/batch_1/', 'GET, HEAD'],
    ['DELETE', '/api/v1/health', 'GET, HEAD'],
    ['POST', '/docs/redoc.js', 'GET, HEAD'],
    ['POST', '/agent/nexus-agent.tgz', 'GET, HEAD'],
    ['OPTIONS', '/api/v1/commands', 'GET, HEAD, POST'],
  ])('%s %s is 405 with the methods that work', async (method, path, allow) => {
    const answer = await ask(method, path);
    expectRefusal(answer, 405);
    expect(answer.headers.get('allow')).toBe(allow);
    expect(answer.body.error.message).toContain(allow);
    expect(answer.body.error.details).toEqual({ path, allowed_methods: allow.split(', ') });
  });
});

describe('a path that there is not', () => {
  it.each(['/nothing', '/agent/other.tgz', '/docs/x/y', '/docs/nothing.js', '/api/v1', '/api/v1/nothing', '/health/x'])(
    '%s is 404 with the error body',
    async (path) => {
      expectRefusal(await ask('GET', path), 404);
      const known = path === '/docs/nothing.js';
      expectRefusal(await ask('DELETE', path), known ? 405 : 404);
    },
  );

  it.each([
    ['/telemetry/events', '/api/v1/telemetry/events'],
    ['/v1/commands/cmd_1', '/api/v1/commands/cmd_1'],
    ['/api/commands', '/api/v1/commands'],
    ['/api/v1/api/v1/commands', '/api/v1/commands'],
    ['/api/v1/telemetri/events', '/api/v1/telemetry/events'],
    ['/api/v1/comands/cmd_1', '/api/v1/commands/cmd_1'],
    ['/webhook', '/api/v1/webhooks'],
    ['/helth', '/health'],
    ['/api/v1/metrics', '/metrics'],
  ])('%s names %s', async (path, meant) => {
    const { status, body } = await ask('GET', path);
    expect(status).toBe(404);
    expect(body.error.message).toBe(`There is no such route; did you mean ${meant}?`);
    expect(body.error.details).toEqual({ path, did_you_mean: meant });
  });

  it('names no path of the root for what was asked of the API', async () => {
    const { body } = await ask('GET', '/api/v1/status');
    expect(body.error.message).toBe('There is no such route');
  });

  it('names nothing for what is not near, and for what is very long', async () => {
    for (const path of ['/api/v1/qqqqqqqq', `/api/v1/${'commands/'.repeat(50)}`, `/${'x'.repeat(5000)}`]) {
      const { status, body } = await ask('POST', path);
      expect([status, body.error.message]).toEqual([404, 'There is no such route']);
    }
  });
});

describe('a WebSocket path', () => {
  it.each(['/api/v1/stream', '/stream', '/api/v1/agents/link'])('%s without an upgrade is 426', async (path) => {
    const answer = await ask('GET', path, { key });
    expectRefusal(answer, 426);
    expect(answer.headers.get('upgrade')).toBe('websocket');
    expect(answer.headers.get('connection')).toMatch(/upgrade/i);
    expect(answer.body.error.message).toContain('WebSocket');
  });

  it('leaves the event stream over HTTP as it is', async () => {
    const answer = await ask('POST', '/api/v1/events/stream', { key });
    expectRefusal(answer, 405);
    expect(answer.headers.get('allow')).toBe('GET, HEAD');
  });

  it('is named by the refusal of an upgrade elsewhere', async () => {
    const { status, body } = await upgrade('/api/v1/streams');
    expect([status, body.error.code]).toEqual([404, 'RESOURCE_NOT_FOUND']);
    expect(body.error.message).toContain('/api/v1/stream');
    expect((await upgrade('/health')).status).toBe(404);
  });
});

describe('the root', () => {
  it('leads to the documentation', async () => {
    const answer = await ask('GET', '/');
    expect([answer.status, answer.headers.get('location')]).toEqual([302, '/docs']);
    expect((await ask('HEAD', '/')).status).toBe(302);
    expectRefusal(await ask('POST', '/'), 405);
  });

  it('says where to go on where the documentation is not for everyone', async () => {
    const closed = await startTestApp({ NEXUS_DOCS_PUBLIC: 'false' });
    try {
      const { status, body } = await closed.call('GET', '/');
      expect([status, body]).toEqual([200, { name: 'Nexus', health: '/health', api: '/api/v1', docs: '/docs' }]);
    } finally {
      await closed.stop();
    }
  });
});

describe('an id of another form', () => {
  const FORM = (prefix: string) => `"${prefix}_" followed by a UUID in lower case`;

  it('in a path is 404 and says which form it has', async () => {
    const answer = await ask('GET', '/api/v1/commands/job_1', { key });
    expectRefusal(answer, 404);
    expect(answer.body.error.message).toBe(`cmd not found: its id must be ${FORM('cmd')}`);
    expect(answer.body.error.details).toEqual({ resource: 'cmd', id: 'job_1', expected: FORM('cmd') });
    const event = await ask('GET', '/api/v1/telemetry/events/evt_1', { key });
    expect([event.status, event.body.error.details.expected]).toEqual([404, 'a UUID']);
  });

  it('in a query or a body is 400 and says which form it has', async () => {
    const issues = async (method: string, path: string, body?: unknown) => {
      const answer = await app.call<{ error: { details: { field: string; expected: string }[] } }>(method, path, {
        key,
        body,
      });
      expect(answer.status, answer.text).toBe(400);
      return answer.body.error.details.map(({ field, expected }) => [field, expected]);
    };
    expect(await issues('GET', '/api/v1/commands?parent=7')).toEqual([['parent', FORM('cmd')]]);
    expect(await issues('GET', '/api/v1/telemetry/alerts?rule_id=7')).toEqual([['rule_id', FORM('rule')]]);
    const replay = { event_filter: { event_ids: ['evt_1'] } };
    expect(await issues('POST', '/api/v1/events/replay', replay)).toContainEqual([
      'event_filter.event_ids',
      FORM('evt'),
    ]);
    const action = { type: 'webhook', webhook_id: 'x' };
    expect(await issues('POST', '/api/v1/telemetry/rules', { ...RULE, actions: [action] })).toEqual([
      ['actions.0.webhook_id', FORM('webhook')],
    ]);
  });
});

describe('a request without a valid credential', () => {
  const path = '/api/v1/commands';

  it('is told which headers there are', async () => {
    for (const headers of [
      {},
      { authorization: 'Bearer nexus_api_x' },
      { 'x-api-key': 'x' },
      { authorization: 'Basic eDp5' },
    ]) {
      const answer = await ask('GET', path, { headers });
      expectRefusal(answer, 401, 'AUTHENTICATION_FAILED');
      expect(answer.body.error.details.accepted_headers).toEqual([
        expect.stringMatching(/^Authorization: Bearer </),
        expect.stringMatching(/^X-API-Key: </),
      ]);
    }
    expect((await ask('GET', path)).body.error.message).toMatch(/send the header Authorization: Bearer .*X-API-Key/);
  });

  it('gets the challenge of bearer tokens, with its error when one was sent', async () => {
    expect((await ask('GET', path)).headers.get('www-authenticate')).toBe('Bearer realm="nexus"');
    const wrong = await ask('GET', path, { key: 'nexus_api_x' });
    expect(wrong.headers.get('www-authenticate')).toMatch(
      /^Bearer realm="nexus", error="invalid_token", error_description="[^"]+"$/,
    );
  });

  it('is told the headers of signatures where a hook is called', async () => {
    const answer = await ask('POST', '/api/v1/hooks/no-such-hook', { body: {} });
    expectRefusal(answer, 401, 'AUTHENTICATION_FAILED');
    expect(answer.headers.get('www-authenticate')).toBe('Signature realm="hooks"');
    expect(answer.body.error.details.accepted_headers).toMatchObject({ nexus: ['X-Nexus-Signature'] });
  });
});

describe('a field', () => {
  const issues = async (method: string, path: string, body?: unknown) => {
    const answer = await app.call<{ error: { details: { field: string; issue: string }[] } }>(method, path, {
      key,
      body,
    });
    expect(answer.status, answer.text).toBe(400);
    return Object.fromEntries(answer.body.error.details.map(({ field, issue }) => [field, issue]));
  };

  it('that is missing is required, wherever it stands', async () => {
    expect(await issues('POST', '/api/v1/webhooks', {})).toEqual({ url: 'is required', events: 'is required' });
    expect(await issues('POST', '/api/v1/commands')).toMatchObject({
      command_type: 'is required',
      target: 'is required',
    });
    expect(await issues('POST', '/api/v1/telemetry/events', {})).toEqual({
      event_type: 'is required',
      data: 'is required',
    });
    const nested = { name: 'x', event_patterns: ['a.b'], delivery_method: 'webhook', webhook_config: {} };
    expect(await issues('POST', '/api/v1/events/subscriptions', nested)).toEqual({
      'webhook_config.url': 'is required',
    });
    const rule = await issues('POST', '/api/v1/telemetry/rules', { ...RULE, actions: [{ type: 'command' }] });
    expect(rule).toEqual({ 'actions.0.command_type': 'is required', 'actions.0.target': 'is required' });
  });

  it('that is not known names the nearest one', async () => {
    const unknown = (meant: string) => `is not a known field; did you mean ${meant}?`;
    expect(await issues('POST', '/api/v1/commands', { command_typ: 'a', target: 'b' })).toMatchObject({
      command_typ: unknown('command_type'),
    });
    expect(await issues('GET', '/api/v1/commands?stat=queued')).toEqual({ stat: unknown('status') });
    const event = { event_type: 'a', data: {}, sorce: 'x' };
    expect(await issues('POST', '/api/v1/telemetry/events', event)).toEqual({ sorce: unknown('source') });
    expect(await issues('POST', '/api/v1/telemetry/batch', { event: [] })).toMatchObject({ event: unknown('events') });
    const action = { type: 'event', targt: 'x' };
    expect(await issues('POST', '/api/v1/telemetry/rules', { ...RULE, actions: [action] })).toEqual({
      'actions.0.targt': unknown('target'),
    });
  });
});

describe('a metric that is not a point of a series', () => {
  const NOT_A_POINT = 'the event is stored, but it is not a point of a series';
  const submit = (data: object, event_type = 'system.metric') =>
    app.call<{ warnings?: { field: string; message: string }[] }>('POST', '/api/v1/telemetry/events', {
      key,
      body: { event_type, data },
    });

  it.each([
    [
      { metric: 'cpu', value: 1 },
      [['data.metric', `is not a field of a metric: ${NOT_A_POINT}; did you mean metric_name?`]],
    ],
    [{ metric_name: 'cpu', value: '45.2' }, [['data.value', `is a string, not a number: ${NOT_A_POINT}`]]],
    [
      { anything: 1 },
      [
        ['data.metric_name', `is missing: ${NOT_A_POINT}`],
        ['data.value', `is missing: ${NOT_A_POINT}`],
      ],
    ],
  ])('%j is taken with a warning', async (data, expected) => {
    const { status, body } = await submit(data);
    expect([status, body.warnings?.map(({ field, message }) => [field, message])]).toEqual([201, expected]);
  });

  it('is not warned of when it is one, or of another type', async () => {
    expect((await submit({ metric_name: 'cpu', value: 45.2 })).body).not.toHaveProperty('warnings');
    expect((await submit({ metric: 'cpu', value: 'x' }, 'app.started')).body).not.toHaveProperty('warnings');
  });

  it('is named by its place in a batch', async () => {
    const events = ['cpu', 'cpu', 'cpu'].map((metric_name, n) => ({
      event_type: 'system.metric',
      data: { metric_name, value: n === 1 ? 'x' : n },
    }));
    const { status, body } = await app.call('POST', '/api/v1/telemetry/batch', { key, body: { events } });
    expect(status).toBe(202);
    expect(body).toMatchObject({ accepted_count: 3, warnings: [{ index: 1, field: 'data.value' }] });
    const good = await app.call('POST', '/api/v1/telemetry/batch', { key, body: { events: [events[0]] } });
    expect(good.body).not.toHaveProperty('warnings');
  });
});

describe('a name that there is not', () => {
  it('of a command type lists those that there are', async () => {
    const run = async (command_type: string, target: string) => {
      const { status, body } = await ask('POST', '/api/v1/commands', { key, body: { command_type, target } });
      return [status, body.error.message];
    };
    expect(await run('system.pin', 'nexus')).toEqual([
      422,
      'The server itself has no command system.pin; there are system.ping, system.info, health_check',
    ]);
    const agent = { agent_name: 'host-1', agent_type: 'host', capabilities: [], version: '1.0.0' };
    expect((await ask('POST', '/api/v1/ai/agents', { key, body: agent })).status).toBe(201);
    const [status, message] = await run('system.inf', 'host-1');
    expect(status).toBe(422);
    expect(message).toMatch(/^The command type system\.inf is unknown; there are system\.info, /);
  });

  it('of an event is taken with a warning until there is such an event', async () => {
    const url = 'http://127.0.0.1:9/';
    const register = async (events: string[]) => {
      const { status, body } = await app.call('POST', '/api/v1/webhooks', { key, body: { url, events } });
      expect(status).toBe(201);
      return body;
    };
    const names = ['orders.made', 'orders.*', '*.made', 'command.complete', 'command.*', '*', 'task.*'];
    const { warnings, webhook_id } = await register(names);
    const none = (name: string) => `no event ${name} is declared or was emitted so far`;
    expect(warnings).toEqual([
      { field: 'events.0', message: none('orders.made') },
      { field: 'events.1', message: none('orders.*') },
      { field: 'events.2', message: none('*.made') },
      { field: 'events.3', message: `${none('command.complete')}; did you mean command.completed?` },
      { field: 'events.6', message: none('task.*') },
    ]);
    const patch = await app.call('PATCH', `/api/v1/webhooks/${String(webhook_id)}`, { key, body: { events: ['a.b'] } });
    expect(patch.body.warnings).toEqual([{ field: 'events.0', message: none('a.b') }]);
    const emitted = await app.call('POST', '/api/v1/events', { key, body: { type: 'orders.made', data: {} } });
    expect(emitted.status, emitted.text).toBe(201);
    expect(await register(names.slice(0, 3))).not.toHaveProperty('warnings');
  });

  it('of an event of a subscription likewise', async () => {
    const body = { name: 'x', event_patterns: ['comand.failed'], delivery_method: 'stream' };
    const answer = await app.call<{ data: object }>('POST', '/api/v1/events/subscriptions', { key, body });
    expect([answer.status, answer.body.data]).toMatchObject([
      201,
      {
        warnings: [
          {
            field: 'event_patterns.0',
            message: 'no event comand.failed is declared or was emitted so far; did you mean command.failed?',
          },
        ],
      },
    ]);
  });
});

/** The answer to a handshake that is refused. */
function upgrade(path: string): Promise<{ status: number; body: Refusal }> {
  return new Promise((resolve, reject) => {
    const headers = {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
    };
    http
      .get(app.url + path, { headers }, (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => (text += chunk.toString()));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) as Refusal }));
      })
      .on('upgrade', () => reject(new Error('upgraded')))
      .on('error', reject);
  });
}
