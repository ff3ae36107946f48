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
