import type { IncomingMessage, ServerResponse } from 'node:http';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { expect } from 'vitest';
import { violations } from './violations.js';

type Json = Record<string, unknown>;
interface Answer {
  $ref?: string;
  content?: Record<string, { schema?: Json }>;
}
interface Operation {
  /** Operations without one are those that tests make up. */
  summary?: string;
  responses: Record<string, Answer>;
}
export interface ApiDescription {
  paths: Record<string, Record<string, Operation>>;
  components: Json & { responses: Record<string, Answer> };
}
interface HttpServer {
  prependListener(event: 'request', listener: (request: IncomingMessage, response: ServerResponse) => void): unknown;
}

/** Holds every answer of `server` to what the document says of its operation; a test fails by what it has made differ. */
export function checkAnswers(server: HttpServer, describeApi: () => unknown): void {
  let document: DocumentedAnswers | undefined;
  server.prependListener('request', (request, response) => {
    const { currentTestName: test = '' } = expect.getState();
    onAnswer(response, (body) => {
      document ??= new DocumentedAnswers(describeApi() as ApiDescription);
      const type = String(response.getHeader('content-type') ?? '').split(';')[0];
      const { method = '', url = '' } = request;
      const difference = document.differenceOf({ method, url, status: response.statusCode, type, body });
      if (difference) violations.push(`${difference} (${test})`);
    });
  });
}

/** Calls back before the client has the whole answer; without the body when that is a stream, compressed or empty. */
function onAnswer(response: ServerResponse, done: (body?: string) => void): void {
  const chunks: Buffer[] = [];
  const isJson = (): boolean => String(response.getHeader('content-type') ?? '').startsWith('application/json');
  const keep = (chunk: unknown, encoding: unknown): void => {
    if (!isJson()) return;
    if (typeof chunk === 'string') chunks.push(Buffer.from(chunk, encoding as BufferEncoding));
    else if (chunk instanceof Uint8Array) chunks.push(Buffer.from(chunk));
  };
  let ended = false;
  const write = response.write.bind(response);
  const end = response.end.bind(response);
  response.write = (...given: unknown[]): boolean => {
    keep(given[0], given[1]);
    return Reflect.apply(write, response, given) as boolean;
  };
  response.end = (...given: unknown[]): ServerResponse => {
    if (!ended) {
      ended = true;
      keep(given[0], typeof given[1] === 'string' ? given[1] : 'utf8');
      const bytes = Buffer.concat(chunks);
      done(bytes.length === 0 ? undefined : unpack(bytes, response.getHeader('content-encoding')).toString());
    }
    return Reflect.apply(end, response, given) as ServerResponse;
  };
  response.once('close', () => {
    if (!ended && response.headersSent) done();
    ended = true;
  });
}

function unpack(bytes: Buffer, encoding: unknown): Buffer {
  if (encoding === 'gzip') return gunzipSync(bytes);
  return encoding === 'br' ? brotliDecompressSync(bytes) : bytes;
}

class DocumentedAnswers {
  private readonly ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: true });
  private readonly templates: { pattern: RegExp; path: string; parameters: number }[];
  private readonly checks = new Map<object, ValidateFunction>();

  constructor(private readonly document: ApiDescription) {
    addFormats.default(this.ajv);
    this.ajv.addSchema({ $id: 'nexus:api', components: closed(document.components) });
    this.templates = Object.keys(document.paths)
      .map((path) => ({
        path,
        pattern: new RegExp(`^${path.replace(/[.]/g, '\\.').replace(/\{[^}]+\}/g, '[^/]+')}/?$`, 'i'),
        parameters: path.split('{').length,
      }))
      .sort((a, b) => a.parameters - b.parameters);
  }

  /** What the document does not say of this answer; nothing of requests that it has no operation for. */
  differenceOf(sent: { method: string; url: string; status: number; type: string; body?: string }): string | undefined {
    const [path] = sent.url.split('?');
    const method = sent.method === 'HEAD' ? 'get' : sent.method.toLowerCase();
    const template = this.templates.find(
      (candidate) => candidate.pattern.test(path) && method in this.document.paths[candidate.path],
    );
    if (!template) return;
    const operation = this.document.paths[template.path][method];
    if (!operation.summary) return;
    const name = `${sent.method} ${template.path} ${sent.status}`;
    const listed = operation.responses[String(sent.status)] as Answer | undefined;
    if (!listed) return `${name}: this status is not in the document: ${sent.body?.slice(0, 300)}`;
    // The text of a redirect is for people without a browser.
    if (sent.status >= 300 && sent.status < 400) return;
    const answer = listed.$ref ? this.document.components.responses[listed.$ref.split('/').at(-1) as string] : listed;
    if (sent.method === 'HEAD' || (!sent.type && sent.body === undefined)) return;
    const content = answer.content?.[sent.type];
    if (!content) return `${name}: ${sent.type} is not in the document`;
    if (sent.type !== 'application/json' || !content.schema || sent.body === undefined) return;
    return this.bodyDifference(name, content.schema, sent.body);
  }

  private bodyDifference(name: string, schema: object, body: string): string | undefined {
    let check = this.checks.get(schema);
    if (!check) {
      // References stand for the same document wherever they are written.
      const own = JSON.stringify(schema).replaceAll('"#/components/', '"nexus:api#/components/');
      check = this.ajv.compile(closed(JSON.parse(own)) as object);
      this.checks.set(schema, check);
    }
    if (check(JSON.parse(body))) return;
    return `${name}: ${check.errors?.map(describeError).join(', ')}\n${body.slice(0, 1000)}`;
  }
}

/** Stricter than what clients are promised: a field that the document does not know was forgotten in it. */
function closed(node: unknown): unknown {
  if (typeof node !== 'object' || node === null) return node;
  if (Array.isArray(node)) return node.map(closed);
  const copy = Object.fromEntries(Object.entries(node).map(([name, value]) => [name, closed(value)]));
  const open = copy.type !== 'object' || typeof copy.properties !== 'object' || 'additionalProperties' in copy;
  return open ? copy : { ...copy, additionalProperties: false };
}

function describeError({ instancePath, message = '', params }: ErrorObject): string {
  return `body${instancePath} ${message}${'additionalProperty' in params ? `: ${params.additionalProperty}` : ''}`;
}
