import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ApiDocument } from '../../src/platform/http/index.js';
import { actor } from '../support/actors.js';
import { startTestApp, type TestApp } from '../support/app.js';

interface Parameter {
  name: string;
  in: string;
}
interface Operation {
  operationId: string;
  parameters?: Parameter[];
  requestBody?: { content: Record<string, { schema: Schema }> };
}
interface Schema {
  $ref?: string;
  type?: string | string[];
  properties?: Record<string, Schema>;
  items?: Schema;
  enum?: unknown[];
  example?: unknown;
  examples?: unknown[];
}
interface Sent {
  method: string;
  path: string;
  body?: string;
  headers: Record<string, string>;
}

/** Per operation; NEXUS_TEST_FUZZ=2000 runs the long version, which takes minutes. */
const REQUESTS_PER_OPERATION = Number(process.env['NEXUS_TEST_FUZZ'] ?? 60);
const SEED = 20_251_103;
const AT_ONCE = 8;
const UUID = '550e8400-e29b-41d4-a716-446655440000';

let app: TestApp;
let key: string;
beforeAll(async () => {
  app = await startTestApp({ NEXUS_LOG_LEVEL: 'silent' });
  ({ key } = await actor(app));
});
afterAll(() => app.stop());

it(
  'answers thousands of random requests to every route without a fault of its own',
  async () => {
    const { paths, components } = app.get(ApiDocument).get() as unknown as {
      paths: Record<string, Record<string, Operation>>;
      components: { schemas: Record<string, Schema> };
    };
    const all = Object.entries(paths).flatMap(([path, item]) =>
      Object.entries(item).map(([method, operation]) => requestsFor(path, method, operation, components.schemas)),
    );
    const requests = all.flatMap((arbitrary, index) =>
      fc.sample(arbitrary, { numRuns: REQUESTS_PER_OPERATION, seed: SEED + index }),
    );
    const faults: unknown[] = [];
    const statuses = new Map<number, number>();
    const next = requests.values();
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        for (const request of next) {
          const { status, fault } = await send(request);
          statuses.set(status, (statuses.get(status) ?? 0) + 1);
          if (fault) faults.push({ fault, status, ...request });
        }
      }),
    );
    process.stderr.write(`${requests.length} requests: ${JSON.stringify(Object.fromEntries(statuses))}\n`);
    expect(faults).toEqual([]);
    expect(requests.length).toBeGreaterThan(2000);
    // Some must get past the checks, or nothing behind them was tried.
    expect((statuses.get(200) ?? 0) + (statuses.get(201) ?? 0) + (statuses.get(202) ?? 0)).toBeGreaterThan(100);
    expect((await app.call('GET', '/readyz')).status).toBe(200);
  },
  180_000 + REQUESTS_PER_OPERATION * 3000,
);

async function send(request: Sent): Promise<{ status: number; fault?: string }> {
  const abort = new AbortController();
  const response = await fetch(app.url + request.path, { ...request, redirect: 'manual', signal: abort.signal });
  const { status } = response;
  if ((response.headers.get('content-type') ?? '').includes('event-stream')) {
    abort.abort();
    return { status };
  }
  const text = await response.text();
  if (status >= 500 && status !== 503) return { status, fault: text };
  if (status < 400 || request.path.startsWith('/readyz')) return { status };
  if (/\bat .+\.[jt]s:\d+|SELECT |INSERT /.test(text)) return { status, fault: `internals: ${text}` };
  try {
    const { error, request_id } = JSON.parse(text) as {
      error: { code: string; request_id: string };
      request_id: string;
    };
    const complete =
      error.code && error.request_id === request_id && request_id === response.headers.get('x-request-id');
    return complete ? { status } : { status, fault: `incomplete: ${text}` };
  } catch {
    return { status, fault: `no error body: ${text.slice(0, 200)}` };
  }
}

const nasty = fc.oneof(
  fc.constantFrom(
    '',
    '0',
    '-1',
    '1e999',
    '9223372036854775808',
    'null',
    'NaN',
    '%',
    '\u0000',
    "' OR 1=1 --",
    '../..',
    '\ud800',
    '{}',
    '[]',
  ),
  fc.constantFrom(
    'true',
    '1',
    '50',
    '5m',
    '1h',
    'now',
    'cpu.usage',
    'local',
    '2025-11-03T01:54:00Z',
    '2025-13-45',
    '1970-01-01T00:00:00Z',
  ),
  fc.string({ maxLength: 20 }),
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.integer().map(String),
);
const id = fc.oneof(
  fc
    .constantFrom('cmd', 'agent', 'key', 'token', 'sess', 'user', 'batch', 'role', 'join')
    .map((prefix) => `${prefix}_${UUID}`),
  fc.uuid(),
  nasty,
);

function requestsFor(
  path: string,
  method: string,
  operation: Operation,
  schemas: Record<string, Schema>,
): fc.Arbitrary<Sent> {
  const names = (place: string): string[] =>
    (operation.parameters ?? []).filter((p) => p.in === place).map((p) => p.name);
  const schema = operation.requestBody?.content['application/json']?.schema;
  const body: fc.Arbitrary<string | undefined> =
    method === 'get'
      ? fc.constant(undefined)
      : fc.oneof(
          {
            weight: 6,
            arbitrary: (schema ? valueOf(schema, schemas) : fc.json()).map((value) => JSON.stringify(value) ?? 'x'),
          },
          { weight: 1, arbitrary: fc.json({ maxDepth: 4 }) },
          { weight: 1, arbitrary: fc.string({ maxLength: 40 }) },
          { weight: 1, arbitrary: fc.constant(undefined) },
        );
  const query = fc.tuple(
    ...names('query').map((name) =>
      fc
        .option(fc.oneof(nasty, fc.constantFrom('1', '10', '5m', '2025-11-03T01:54:00Z')), { nil: undefined })
        .map((value) => [name, value] as const),
    ),
    fc.option(nasty, { nil: undefined, freq: 10 }).map((value) => ['unknown', value] as const),
  );
  return fc.record({ ids: fc.array(id, { minLength: 4, maxLength: 4 }), query, body, extra: headers }).map((drawn) => {
    let used = 0;
    const filled = path.replace(/\{[^}]+\}/g, () => escape(drawn.ids[used++ % 4]) || 'x');
    const search = drawn.query
      .flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${escape(value)}`]))
      .join('&');
    return {
      method: method.toUpperCase(),
      path: search ? `${filled}?${search}` : filled,
      body: drawn.body,
      headers: {
        authorization: `Bearer ${key}`,
        ...(drawn.body === undefined ? {} : { 'content-type': 'application/json' }),
        ...drawn.extra,
      },
    };
  });
}

const headers: fc.Arbitrary<Record<string, string>> = fc.oneof(
  { weight: 6, arbitrary: fc.constant({}) },
  {
    weight: 4,
    arbitrary: fc.constantFrom<Record<string, string>>(
      { 'content-type': 'text/plain' },
      { authorization: 'Bearer nexus_api_wrong' },
      { 'idempotency-key': 'one-key-for-all' },
      { 'idempotency-key': ' ' },
      { 'if-match': '"v1"' },
      { 'if-none-match': '*' },
      { 'x-request-id': 'given' },
      { 'last-event-id': '-1' },
      { 'accept-encoding': 'br' },
      { 'content-encoding': 'gzip' },
    ),
  },
);

/** A value close to the schema: mostly its examples and enums, sometimes anything at all. */
function valueOf(schema: Schema, schemas: Record<string, Schema>, depth = 0): fc.Arbitrary<unknown> {
  if (schema.$ref) return valueOf(schemas[schema.$ref.split('/').at(-1) as string] ?? {}, schemas, depth);
  const known = [...(schema.enum ?? []), ...(schema.examples ?? []), ...('example' in schema ? [schema.example] : [])];
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  const typed: fc.Arbitrary<unknown> =
    depth > 4
      ? fc.constant(null)
      : schema.properties
        ? fc.record(
            Object.fromEntries(
              Object.entries(schema.properties).map(([name, one]) => [name, valueOf(one, schemas, depth + 1)]),
            ),
            { requiredKeys: [] },
          )
        : type === 'array'
          ? fc.array(valueOf(schema.items ?? {}, schemas, depth + 1), { maxLength: 3 })
          : type === 'string'
            ? nasty
            : type === 'integer' || type === 'number'
              ? fc.oneof(fc.integer(), fc.double(), fc.constantFrom(0, -1, 1, 2 ** 31, 2 ** 53))
              : type === 'boolean'
                ? fc.boolean()
                : fc.dictionary(fc.string({ maxLength: 8 }), fc.jsonValue({ maxDepth: 2 }), { maxKeys: 3 });
  return fc.oneof(
    { weight: 4, arbitrary: known.length > 0 ? fc.constantFrom(...known) : typed },
    { weight: 4, arbitrary: typed },
    { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 3 }) },
  );
}

/** Mostly as a careful client would write it, broken escapes included. */
function escape(text: string): string {
  return text === '%'
    ? '%E0%A4%A'
    : [...text]
        .map((c) => (/[\ud800-\udfff]/.test(c) && c.length === 1 ? '%ED%A0%80' : encodeURIComponent(c)))
        .join('');
}
