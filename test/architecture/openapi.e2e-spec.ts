import { readdir, readFile, writeFile } from 'node:fs/promises';
import { Validator } from '@seriousme/openapi-schema-validator';
import * as prettier from 'prettier';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ApiDocument } from '../../src/platform/http/index.js';
import { startTestApp, type TestApp } from '../support/app.js';

type Json = Record<string, unknown>;

interface Operation extends Json {
  operationId: string;
  summary?: string;
  tags?: string[];
  parameters?: Json[];
  requestBody?: { content: Record<string, { schema?: Json; example?: unknown; examples?: unknown }> };
  responses: Record<string, { $ref?: string; description?: string; content?: Record<string, Json> }>;
  security?: unknown[];
}

const COMMITTED = new URL('../../docs/openapi.json', import.meta.url);
const SOURCES = new URL('../../src/', import.meta.url);
const PAGING = ['limit', 'offset', 'page', 'per_page', 'cursor'];
/** Fields that count something, wherever they are. */
const COUNT =
  /\/properties\/(total|limit|offset|page|per_page|pages|version|count|attempts?|\w+_(count|seconds|bytes|size)|(duration|latency)_ms)$/;
const METHODS = ['get', 'put', 'post', 'delete', 'patch'];

/** Ids that clients generated from the first description of the API already use. */
const KNOWN_IDS = [
  'healthCheck',
  'submitTelemetryEvent',
  'queryTelemetryEvents',
  'submitTelemetryBatch',
  'executeCommand',
  'getCommandStatus',
  'cancelCommand',
  'registerAIAgent',
  'createAccessToken',
];

describe('the OpenAPI document', () => {
  let app: TestApp;
  let document: {
    paths: Record<string, Record<string, Operation>>;
    components: { schemas: Record<string, Json> };
  } & Json;
  let operations: [name: string, operation: Operation][];

  beforeAll(async () => {
    app = await startTestApp();
    document = JSON.parse(app.get(ApiDocument).json()) as typeof document;
    operations = Object.entries(document.paths).flatMap(([path, item]) =>
      METHODS.filter((method) => item[method]).map((method): [string, Operation] => [
        `${method.toUpperCase()} ${path}`,
        item[method],
      ]),
    );
    if (process.env['NEXUS_TEST_WRITE_OPENAPI']) await writeFile(COMMITTED, await formatted(document));
  });
  afterAll(() => app.stop());

  it('says which fields are stored and not used yet', () => {
    const { AgentAuthenticationDto, CreateCommandTypeDto, PutCommandTypeDto } = document.components.schemas as Record<
      string,
      { properties: Record<string, { description?: string }> }
    >;
    const unused = [
      AgentAuthenticationDto.properties.type,
      AgentAuthenticationDto.properties.key_reference,
      CreateCommandTypeDto.properties.risk,
      PutCommandTypeDto.properties.risk,
    ];
    for (const { description } of unused) expect(description).toContain('the server does not use it yet');
  });

  it('is the committed copy (npm run openapi renews it)', async () => {
    expect(JSON.parse(await readFile(COMMITTED, 'utf8'))).toEqual(document);
  });

  it('is valid OpenAPI 3.1', async () => {
    const result = await new Validator().validate(structuredClone(document));
    expect(result.errors ?? []).toEqual([]);
    expect(document.openapi).toBe('3.1.0');
    expect(findAll(document, (node) => 'nullable' in node && typeof node.nullable === 'boolean')).toEqual([]);
  });

  it('names every operation once and says what it does', () => {
    const ids = operations.map(([, { operationId }]) => operationId);
    expect(ids.filter((id, index) => ids.indexOf(id) !== index)).toEqual([]);
    expect(operations.filter(([, { summary }]) => !summary).map(([name]) => name)).toEqual([]);
    expect(ids.filter((id) => !/^[a-z][A-Za-z]+$/.test(id))).toEqual([]);
    expect(KNOWN_IDS.filter((id) => !ids.includes(id))).toEqual([]);
  });

  it('shows the body of every success', () => {
    const silent = operations.filter(([, { responses }]) => {
      const successes = Object.entries(responses).filter(([status]) => status.startsWith('2'));
      return !successes.some(
        ([status, { content }]) => status === '204' || Object.values(content ?? {}).some((c) => c.schema),
      );
    });
    expect(silent.map(([name]) => name)).toEqual([]);
  });

  it('has an example in every JSON body', () => {
    const bare = operations.flatMap(([name, { requestBody, responses }]) => {
      const json = (content: Record<string, Json> = {}): Json[] =>
        Object.entries(content).flatMap(([type, body]) => (type === 'application/json' ? [body] : []));
      const bodies: [string, Json[]][] = [
        ['request', json(requestBody?.content)],
        ...Object.entries(responses)
          .filter(([status]) => status.startsWith('2'))
          .map(([status, { content }]): [string, Json[]] => [status, json(content)]),
      ];
      return bodies.filter(([, contents]) => contents.some((c) => !hasExample(c))).map(([what]) => `${name}: ${what}`);
    });
    expect(bare).toEqual([]);
  });

  it('takes every schema from a class whose name no other class has', async () => {
    const files = (await readdir(SOURCES, { recursive: true })).filter((file) => /\.(dto|controller)\.ts$/.test(file));
    const sources = await Promise.all(files.map((file) => readFile(new URL(file, SOURCES), 'utf8')));
    const names = sources.flatMap((source) =>
      [...source.matchAll(/^(?:export )?class (\w+Dto)\b/gm)].map(([, name]) => name),
    );
    expect(names.length).toBeGreaterThan(100);
    // Of two classes with one name, the document describes the answers of both as one of them.
    expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
  });

  it('says who may call: scopes, or nobody in particular', () => {
    const unclear = operations.filter(
      ([, operation]) => (operation.security?.length ?? 0) > 0 !== Array.isArray(operation['x-required-scopes']),
    );
    expect(unclear.map(([name]) => name)).toEqual([]);
    expect(operations.filter(([, { security }]) => !security).map(([name]) => name)).toEqual([]);
    const open = operations.filter(([, { security }]) => !security?.length).map(([name]) => name);
    expect(open.filter((name) => name.includes('/api/v1/') && !name.startsWith('GET '))).toEqual(
      expect.arrayContaining(['POST /api/v1/auth/login', 'POST /api/v1/auth/refresh']),
    );
  });

  it('is read relative to the server it came from, with one path for each template', () => {
    expect(document.servers).toEqual([{ url: '/', description: 'This server' }]);
    const templates = Object.keys(document.paths).map((path) => path.replace(/\{[^}]+\}/g, '{}'));
    expect(templates.filter((template, index) => templates.indexOf(template) !== index)).toEqual([]);
  });

  it('gives an example of every path parameter and of how to page', () => {
    const bare = operations.flatMap(([name, { parameters = [] }]) =>
      parameters
        .filter((parameter) => parameter.in === 'path' || PAGING.includes(parameter.name as string))
        .filter(({ example, schema }) => example === undefined && (schema as Json).example === undefined)
        .map((parameter) => `${name}: ${String(parameter.name)}`),
    );
    expect(bare).toEqual([]);
  });

  it('counts in integers from zero or more', () => {
    const at = (path: string): Json =>
      path.split('/').reduce((node, key) => node[key] as Json, { '': document } as Json);
    const isNumber = ({ type }: Json): boolean => [type].flat().some((one) => one === 'number' || one === 'integer');
    const counts = findAll(document, isNumber).filter((path) => COUNT.test(path));
    expect(counts.length).toBeGreaterThan(50);
    const loose = counts.filter((path) => [at(path).type].flat().includes('number') || !('minimum' in at(path)));
    expect(loose).toEqual([]);
  });

  it('says what every object may hold, so that generated types take it', () => {
    const OPEN = ['properties', 'additionalProperties', 'allOf', 'anyOf', 'oneOf'];
    const closed = findAll(
      { ...document.components.schemas, paths: document.paths },
      (node) => node.type === 'object' && !OPEN.some((key) => key in node),
    );
    expect(closed.filter((path) => !path.includes('/example'))).toEqual([]);
  });

  it('gives defaults of fields in words: generated types require a field that has a `default`', () => {
    expect(findAll(document.components.schemas, (node) => 'default' in node && !('properties' in node))).toEqual([]);
  });

  it('describes every tag and every refusal', () => {
    const tags = (document.tags as { name: string; description: string }[]).map(({ name, description }) => [
      name,
      description,
    ]);
    expect(tags.filter(([name, description]) => name === description)).toEqual([]);
    expect(operations.filter(([, { tags: own }]) => own?.length !== 1).map(([name]) => name)).toEqual([]);
    for (const [name, { responses }] of operations) {
      for (const status of ['400', '500']) expect(responses[status], `${name} ${status}`).toBeDefined();
    }
  });

  function hasExample(node: Json, seen = new Set<string>()): boolean {
    if ('example' in node || 'examples' in node || 'const' in node) return true;
    if (typeof node.$ref === 'string') {
      const name = node.$ref.split('/').at(-1) as string;
      if (seen.has(name)) return false;
      return hasExample(document.components.schemas[name], seen.add(name));
    }
    return Object.values(node).some(
      (value) => typeof value === 'object' && value !== null && hasExample(value as Json, seen),
    );
  }
});

function findAll(node: unknown, matches: (node: Json) => boolean, path = ''): string[] {
  if (typeof node !== 'object' || node === null) return [];
  const below = Object.entries(node).flatMap(([key, value]) => findAll(value, matches, `${path}/${key}`));
  return matches(node as Json) ? [path, ...below] : below;
}

async function formatted(document: unknown): Promise<string> {
  return prettier.format(JSON.stringify(document), { ...(await prettier.resolveConfig(COMMITTED)), parser: 'json' });
}
