import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { InFlight } from '../../src/platform/http/index.js';
import { HealthRegistry, Metrics } from '../../src/platform/observability/index.js';
import { type Harness, startHarness } from '../http/harness.js';

describe('probes, metrics and documents', () => {
  let server: Harness;
  beforeAll(async () => {
    server = await startHarness([]);
  });
  afterAll(() => server.stop());

  const get = async (path: string, headers: Record<string, string> = {}) => {
    const response = await fetch(server.url + path, { headers });
    const text = await response.text();
    return { status: response.status, headers: response.headers, text, json: <T>() => JSON.parse(text) as T };
  };

  it('tells how it is, in the words monitors know', async () => {
    const root = (await get('/health')).json<Record<string, unknown>>();
    expect(root).toMatchObject({ status: 'healthy', version: '0.1.0' });
    expect(root.uptime).toBeGreaterThan(0);
    expect(Date.parse(root.timestamp as string)).toBeGreaterThan(Date.now() - 60_000);
    const short = (await get('/api/v1/health')).json<Record<string, unknown>>();
    expect(Object.keys(short).sort()).toEqual(['status', 'timestamp', 'version']);
  });

  it('names every part with the time its check took', async () => {
    const { components } = (await get('/health/detailed')).json<{
      components: Record<string, { status: string; response_time_ms: number; details: object }>;
    }>();
    expect(components.database.status).toBe('healthy');
    expect(components.database.details).toMatchObject({ connections_max: 18 });
    expect(components.database.response_time_ms).toBeGreaterThanOrEqual(0);
    expect(components.queue.status).toBe('healthy');
  });

  it('follows its states: starting, ready, draining, failed', async () => {
    const registry = server.app.get(HealthRegistry);
    const seen = async () => [
      (await get('/startup')).status,
      (await get('/readyz')).status,
      (await get('/healthz')).status,
    ];
    try {
      expect(await seen()).toEqual([200, 200, 200]);
      registry.state = 'starting';
      expect(await seen()).toEqual([503, 503, 200]);
      expect((await get('/readyz')).json()).toEqual({ status: 'starting' });
      registry.state = 'draining';
      expect(await seen()).toEqual([200, 503, 200]);
      registry.state = 'failed';
      expect(await seen()).toEqual([503, 503, 200]);
    } finally {
      registry.state = 'ready';
    }
  });

  it('is degraded without a part and not ready without a vital one', async () => {
    const registry = server.app.get(HealthRegistry);
    const fail = async () => Promise.reject(new Error('secret reason'));
    const until = (path: string, status: string, code: number) =>
      vi.waitFor(async () => {
        const { json, status: got } = await get(path);
        expect([got, json<{ status: string }>().status]).toEqual([code, status]);
      }, 8000);
    registry.register('spare', fail);
    await until('/health', 'degraded', 200);
    await until('/readyz', 'ready', 200);
    registry.register('heart', fail, { vital: true });
    await until('/health', 'unhealthy', 503);
    await until('/api/v1/health', 'unhealthy', 503);
    await until('/readyz', 'unhealthy', 503);
    const { text, json } = await get('/health/detailed');
    expect(json<{ components: object }>().components).toMatchObject({
      heart: { status: 'unhealthy' },
      database: { status: 'healthy' },
    });
    expect(text).not.toContain('secret reason');
    for (const name of ['spare', 'heart']) registry.register(name, async () => ({}));
    await until('/health', 'healthy', 200);
  });

  it('gives metrics in both formats, with routes as patterns', async () => {
    await get('/api/v1/no-such-thing');
    await get('/health');
    const plain = await get('/metrics');
    expect(plain.headers.get('content-type')).toContain('text/plain; version=0.0.4');
    expect(plain.text).toMatch(/nexus_http_requests_total\{method="GET",route="unmatched",status="404"\} \d+/);
    expect(plain.text).toMatch(/nexus_http_requests_total\{method="GET",route="\/health",status="200"\} \d+/);
    expect(plain.text).not.toContain('no-such-thing');
    expect(plain.text).toMatch(/nexus_db_connections_max 18/);
    expect(plain.text).toMatch(/nexus_db_connections_active \d+/);
    expect(plain.text).toMatch(/nexus_queue_depth\{queue="maintenance",state="delayed"\} \d+/);
    expect(plain.text).toContain('nodejs_eventloop_lag_seconds');
    const [open, again] = await Promise.all([
      get('/metrics', { accept: 'application/openmetrics-text; version=1.0.0' }),
      get('/metrics'),
    ]);
    expect(open.headers.get('content-type')).toContain('application/openmetrics-text');
    expect(open.text.trimEnd().endsWith('# EOF')).toBe(true);
    expect(again.text).not.toContain('# EOF');
  });

  it('makes one text for all who ask for metrics at once, and gives them no place in work', async () => {
    const busy = await startHarness([], { NEXUS_MAX_CONCURRENT_REQUESTS: '1' });
    try {
      const render = vi.spyOn(busy.app.get(Metrics), 'render');
      let scraped: () => void = () => undefined;
      render.mockReturnValueOnce(
        new Promise((resolve) => (scraped = () => resolve({ contentType: 'text/plain', text: 'shared 1' }))),
      );
      const scrapes = Array.from({ length: 20 }, () => fetch(`${busy.url}/metrics`));
      await vi.waitFor(() => expect(busy.app.get(InFlight).size).toBe(20));
      expect((await fetch(`${busy.url}/api/v1/health`)).status).toBe(200);
      scraped();
      const texts = await Promise.all(scrapes.map(async (scrape) => (await scrape).text()));
      expect(new Set(texts)).toEqual(new Set(['shared 1']));
      expect(render).toHaveBeenCalledTimes(1);
    } finally {
      await busy.stop();
    }
  });

  it('serves the API document and its pages from its own files', async () => {
    const document = (await get('/openapi.json')).json<{ openapi: string; paths: object }>();
    expect(document.openapi).toBe('3.1.0');
    expect(Object.keys(document.paths)).toContain('/api/v1/health');
    expect((await get('/openapi.yaml')).text).toMatch(/^openapi: 3\.1\.0/);
    for (const page of ['/docs', '/redoc']) {
      const { text, headers, status } = await get(page);
      expect(status).toBe(200);
      expect(headers.get('content-security-policy')).toContain("script-src 'self'");
      expect(text).not.toMatch(/https?:\/\//);
      const assets = [...text.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1]);
      expect(assets.length).toBeGreaterThanOrEqual(3);
      for (const asset of assets) {
        const file = await get(asset);
        expect(file.status, asset).toBe(200);
        expect(file.text.length, asset).toBeGreaterThan(50);
      }
    }
    for (const other of ['/docs/package.json', '/docs/..%2f..%2fpackage.json', '/docs/toString']) {
      expect((await get(other)).status, other).toBe(404);
    }
  });
});

describe('closed probes', () => {
  it('asks for a scope when a setting says so', async () => {
    const server = await startHarness([], {
      NEXUS_METRICS_PUBLIC: 'false',
      NEXUS_HEALTH_PUBLIC: 'false',
      NEXUS_DOCS_PUBLIC: 'false',
    });
    try {
      for (const [path, scope] of [
        ['/metrics', 'metrics:read'],
        ['/health/detailed', 'system:read'],
        ['/openapi.json', 'system:read'],
        ['/docs', 'system:read'],
      ]) {
        const status = async (who?: string) =>
          (await fetch(server.url + path, who ? { headers: { authorization: `Bearer ${who}` } } : {})).status;
        expect([await status(), await status('ann/task:read'), await status(`ann/${scope}`)], path).toEqual([
          401, 403, 200,
        ]);
      }
      expect((await fetch(`${server.url}/health`)).status).toBe(200);
    } finally {
      await server.stop();
    }
  });
});

describe('a server that others can reach', () => {
  const statuses = async (env: Record<string, string>): Promise<number[]> => {
    const server = await startHarness([], { NEXUS_HOST: '0.0.0.0', ...env });
    try {
      const paths = ['/metrics', '/health/detailed', '/health', '/readyz'];
      return await Promise.all(paths.map(async (path) => (await fetch(server.url + path)).status));
    } finally {
      await server.stop();
    }
  };

  it('asks for a scope before it shows metrics and parts, unless a setting opens them', async () => {
    expect(await statuses({})).toEqual([401, 401, 200, 200]);
    expect(await statuses({ NEXUS_METRICS_PUBLIC: 'true', NEXUS_HEALTH_PUBLIC: 'true' })).toEqual([200, 200, 200, 200]);
  });
});

describe('a process that runs jobs only', () => {
  it('answers probes and metrics and nothing else', async () => {
    const server = await startHarness([], {
      NEXUS_ROLE: 'worker',
      NEXUS_MASTER_KEYS: `k1:${Buffer.alloc(32, 7).toString('base64')}`,
    });
    try {
      const status = async (path: string) => (await fetch(server.url + path)).status;
      for (const path of ['/health', '/healthz', '/readyz', '/startup', '/metrics']) {
        expect(await status(path)).toBe(200);
      }
      for (const path of ['/api/v1/health', '/docs', '/api/v1/security/audit']) expect(await status(path)).toBe(404);
    } finally {
      await server.stop();
    }
  });
});
