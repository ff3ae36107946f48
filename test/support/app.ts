import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Settings } from '../../src/platform/config/index.js';
import { readSettings } from '../../src/settings.js';
import { Database } from '../../src/platform/database/index.js';
import { ApiDocument } from '../../src/platform/http/index.js';
import { startServer } from '../../src/server.js';
import { checkAnswers } from './documented-answers.js';
import { checkPublishedEvents } from './published-events.js';
import { createTestDatabase } from './test-database.js';
import { throwViolations } from './violations.js';

/** All servers of one database read what the others have encrypted. */
const MASTER_KEYS = `test:${randomBytes(32).toString('base64')}`;

/** A JSON answer of the server under test. */
export interface Answer<Body = Record<string, unknown>> {
  status: number;
  headers: Headers;
  body: Body;
  text: string;
}

export interface TestApp {
  /** Base URL without the API prefix. */
  url: string;
  db: Database;
  /** Provider of the running application. */
  get<T>(token: abstract new (...args: never[]) => T): T;
  /** One request; `key` goes into the Authorization header as a bearer. A body that is no string is sent as JSON. */
  call<Body = Record<string, unknown>>(method: string, path: string, options?: CallOptions): Promise<Answer<Body>>;
  /** Fails when an event was published that is not as its catalogue entry says. */
  /** Fails when the server has published an event that is not as the catalogue of events says. */
  stop(): Promise<void>;
}

export interface CallOptions {
  key?: string;
  body?: unknown;
  headers?: Record<string, string>;
}

/**
 * Starts the real server on a fresh copy of the migrated database, on a free port; with `DATABASE_URL` in `env` on that
 * database, which stays (a second process beside another one's).
 */
export async function startTestApp(env: Record<string, string> = {}): Promise<TestApp> {
  const database = env.DATABASE_URL
    ? { url: env.DATABASE_URL, drop: () => Promise.resolve() }
    : await createTestDatabase();
  const home = await mkdtemp(path.join(os.tmpdir(), 'nexus-test-'));
  const settings = readSettings({
    PORT: '0',
    NEXUS_HOST: '127.0.0.1',
    NEXUS_HOME: home,
    NEXUS_LOG_LEVEL: 'error',
    NEXUS_RATE_LIMITS: 'off',
    NEXUS_LOCAL_AGENT: 'false',
    NEXUS_MASTER_KEYS: MASTER_KEYS,
    ...env,
    DATABASE_URL: database.url,
  });
  const server = await startServer(settings, database.url);
  // A process of jobs only answers its operations with 404, whatever they are.
  if (settings.get(Settings).role !== 'worker') {
    checkAnswers(server.app.getHttpServer(), () => server.app.get(ApiDocument).get());
  }
  const url = `http://127.0.0.1:${server.port}`;
  return {
    url,
    db: server.app.get(Database),
    get: (token) => server.app.get(token, { strict: false }),
    call: (method, target, options) => call(url, method, target, options),
    stop: async () => {
      await server.stop();
      try {
        await checkPublishedEvents(database.url);
        throwViolations();
      } finally {
        await database.drop();
        await rm(home, { recursive: true, force: true });
      }
    },
  };
}

async function call<Body>(
  base: string,
  method: string,
  target: string,
  options: CallOptions = {},
): Promise<Answer<Body>> {
  const { key, body, headers = {} } = options;
  const response = await fetch(base + target, {
    method,
    redirect: 'manual',
    headers: {
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(key ? { authorization: `Bearer ${key}` } : {}),
      ...headers,
    },
    body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body),
  });
  const text = await response.text();
  const isJson = (response.headers.get('content-type') ?? '').includes('json');
  return {
    status: response.status,
    headers: response.headers,
    text,
    body: (isJson && text ? JSON.parse(text) : {}) as Body,
  };
}

export { eventually } from './eventually.js';
