import { afterAll, beforeAll, expect, it } from 'vitest';
import { ApiDocument } from '../../src/platform/http/index.js';
import { actor } from '../support/actors.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { registerAgent } from '../support/fake-agent.js';
import { type Described, exampleOf } from '../support/document-examples.js';

interface Parameter extends Described {
  name: string;
  in: string;
}
interface Operation {
  method: string;
  path: string;
  parameters?: Parameter[];
  requestBody?: { content: Record<string, Described> };
  responses: Record<string, unknown>;
}

/** In the order in which they are sent. */
const METHODS = ['post', 'get', 'patch', 'put', 'delete'];
/** Operations whose examples cannot succeed on a fresh server: the statuses they may get there, and why. */
const REFUSED: Record<string, { statuses: number[]; why: string }> = {
  ...refused([401], 'the password, token or signature of the example is made up', [
    'POST /api/v1/ai/agents/join',
    'POST /api/v1/auth/login',
    'POST /api/v1/auth/refresh',
    'PUT /api/v1/auth/password',
    'POST /api/v1/hooks/{id}',
  ]),
  ...refused([403], 'an agent does it for itself, with its own key', ['POST /api/v1/ai/agents/{id}/heartbeat']),
  ...refused([404], 'the server makes them up itself, when something has gone wrong or been delivered', [
    'GET /api/v1/events/dead-letters/{id}',
    'POST /api/v1/events/dead-letters/{id}/retry',
    'DELETE /api/v1/events/dead-letters/{id}',
    'GET /api/v1/security/alerts/{id}',
    'POST /api/v1/security/alerts/{id}/acknowledge',
    'GET /api/v1/telemetry/alerts/{id}',
    'POST /api/v1/telemetry/alerts/{id}/ack',
    'POST /api/v1/telemetry/alerts/{id}/resolve',
    'POST /api/v1/webhooks/deliveries/{id}/redeliver',
    'GET /api/v1/webhooks/{id}/recoveries/{recoveryId}',
  ]),
  ...refused([404], 'a session begins with a login', ['DELETE /api/v1/auth/sessions/{id}']),
  ...refused([200, 409], 'it may have ended before it is cancelled', [
    'DELETE /api/v1/events/purge/{id}',
    'DELETE /api/v1/events/replay/{id}',
  ]),
  ...refused([409], 'only a command that has ended is run again', ['POST /api/v1/commands/{id}/retry']),
  ...refused([400], 'no fixed time is always within the next 366 days', ['POST /api/v1/telemetry/silences']),
  ...refused([404], 'there is no silence, see above', [
    'GET /api/v1/telemetry/silences/{id}',
    'DELETE /api/v1/telemetry/silences/{id}',
  ]),
};

let app: TestApp;
let key: string;
let schemas: Record<string, Described>;
let operations: Operation[];

beforeAll(async () => {
  app = await startTestApp();
  ({ key } = await actor(app));
  await registerAgent(app, key, { agent_name: 'local' });
  const { paths, components } = app.get(ApiDocument).get() as unknown as {
    paths: Record<string, Record<string, Operation>>;
    components: { schemas: Record<string, Described> };
  };
  schemas = components.schemas;
  operations = Object.entries(paths).flatMap(([path, item]) =>
    METHODS.filter((method) => method in item).map((method) => ({
      ...item[method],
      method: method.toUpperCase(),
      path,
    })),
  );
});
afterAll(() => app.stop());

it('every operation accepts the examples that the document prints for it', async () => {
  const created = new Map<string, string>();
  const wrong: string[] = [];
  for (const operation of operations.sort((a, b) => turnOf(a) - turnOf(b))) {
    const name = `${operation.method} ${operation.path}`;
    const { status, text } = await send(operation, created);
    if (name in REFUSED ? !REFUSED[name].statuses.includes(status) : status >= 400) {
      wrong.push(`${name} ${status} ${text.slice(0, 500)}`);
    }
    if (operation.method === 'POST') created.set(operation.path, text);
  }
  expect(wrong).toEqual([]);
}, 120_000);

function refused(statuses: number[], why: string, names: string[]): typeof REFUSED {
  return Object.fromEntries(names.map((name) => [name, { statuses, why }]));
}

function turnOf({ method, path }: Operation): number {
  return METHODS.indexOf(method.toLowerCase()) * 10 + path.split('{').length;
}

async function send(operation: Operation, created: Map<string, string>): Promise<{ status: number; text: string }> {
  const { method, parameters = [], requestBody } = operation;
  const query = new URLSearchParams();
  let path = operation.path;
  for (const parameter of parameters) {
    const example = exampleOf(parameter, schemas) as string | number | boolean | undefined;
    if (parameter.in === 'query' && example !== undefined) query.set(parameter.name, String(example));
    if (parameter.in === 'path') {
      const collection = operation.path.slice(0, operation.path.indexOf(`/{${parameter.name}}`));
      path = path.replace(`{${parameter.name}}`, idIn(created.get(collection), String(example)));
    }
  }
  const body = requestBody?.content['application/json'];
  const response = await fetch(`${app.url}${path}?${query.toString()}`, {
    method,
    redirect: 'manual',
    headers: { authorization: `Bearer ${key}`, ...(body && { 'content-type': 'application/json' }) },
    body: body && JSON.stringify(exampleOf(body, schemas)),
  });
  const { status, headers } = response;
  if (headers.get('content-type')?.startsWith('text/event-stream')) {
    await response.body?.cancel();
    return { status, text: '' };
  }
  return { status, text: await response.text() };
}

/** The id in `answer` that looks like `example`. */
function idIn(answer: string | undefined, example: string): string {
  const prefix = /^[a-z]+_(?=[0-9a-f-]{36}$)/.exec(example)?.[0];
  return answer?.match(new RegExp(`(?<=")${prefix}[0-9a-f-]{36}(?=")`))?.[0] ?? example;
}
