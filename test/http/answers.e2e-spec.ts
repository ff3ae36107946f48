import http from 'node:http';
import { Body, Controller, Get, Header, Param, ParseIntPipe, Put, Query, Res } from '@nestjs/common';
import { IsInt, IsOptional, IsString, Max } from 'class-validator';
import type { Response } from 'express';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ConfigError } from '../../src/platform/config/index.js';
import { readSettings } from '../../src/settings.js';
import {
  assertVersion,
  Deprecated,
  IfMatch,
  PageQueryDto,
  Public,
  resolvePage,
  versionETag,
  Wire,
} from '../../src/platform/http/index.js';
import { type Harness, startHarness } from './harness.js';

class ThingDto {
  @IsString() name!: string;
  @IsOptional() @IsInt() @Max(10) size?: number;
}

let version = 3;

@Wire('raw')
@Public()
@Controller('things')
class ThingsController {
  @Get() list(@Query() query: PageQueryDto): object {
    return { page: resolvePage(query, { default: 20, max: 100 }) };
  }
  @Get('large') large(): object {
    return { text: 'lorem ipsum '.repeat(1000) };
  }
  @Get('old') @Deprecated({ since: '2026-01-01', sunset: '2026-07-01' }) old(): object {
    return {};
  }
  @Get('stream') @Header('Content-Type', 'text/event-stream') stream(@Res() response: Response): void {
    response.end(`data: ${'x'.repeat(4000)}\n\n`);
  }
  @Get('fault') fault(): never {
    throw new Error('SELECT secret FROM internals');
  }
  @Get(':id') read(@Param('id', ParseIntPipe) id: number, @Res({ passthrough: true }) response: Response): object {
    response.setHeader('ETag', versionETag(version));
    return { id, version };
  }
  @Put(':id') write(@Body() body: ThingDto, @IfMatch() expected?: number): object {
    assertVersion(expected, version);
    version++;
    return { ...body, version };
  }
}

@Wire('envelope')
@Public()
@Controller('wrapped')
class WrappedController {
  @Get() get(): object {
    return { answer: 42 };
  }
}

describe('answers', () => {
  let server: Harness;
  beforeAll(async () => {
    server = await startHarness([ThingsController, WrappedController], {
      NEXUS_CORS_ORIGINS: 'https://app.example.com',
      NEXUS_CORS_CREDENTIALS: 'true',
    });
  });
  afterAll(() => server.stop());

  const call = async (path: string, init: RequestInit = {}) => {
    const response = await fetch(`${server.url}/api/v1${path}`, init);
    const text = await response.text();
    const json = (text.startsWith('{') ? JSON.parse(text) : {}) as Record<string, unknown> & {
      error: Record<string, unknown>;
    };
    return { status: response.status, headers: response.headers, text, json };
  };
  const put = (body: unknown, headers: Record<string, string> = {}) =>
    call('/things/1', {
      method: 'PUT',
      headers: { 'content-type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });

  it('tags a GET by its bytes and answers 304 without a body while they are the same', async () => {
    const first = await call('/things/large');
    const tag = first.headers.get('etag') ?? '';
    expect(tag).toMatch(/^"[\w-]{27}"$/);
    expect(first.headers.get('cache-control')).toBe('private, no-cache');
    for (const sent of [tag, `"other", ${tag}`, '*']) {
      const again = await call('/things/large', { headers: { 'if-none-match': sent } });
      expect([again.status, again.text, again.headers.get('etag')]).toEqual([304, '', tag]);
      expect(again.headers.get('x-request-id')).toMatch(/^req_/);
    }
    expect((await call('/things/large', { headers: { 'if-none-match': '"other"' } })).status).toBe(200);
  });

  it('tags envelopes by their data', async () => {
    const first = await call('/wrapped');
    expect(first.json).toMatchObject({
      success: true,
      data: { answer: 42 },
      message: 'Operation completed successfully',
    });
    expect(first.json.request_id).toBe(first.headers.get('x-request-id'));
    const again = await call('/wrapped', { headers: { 'if-none-match': first.headers.get('etag') ?? '' } });
    expect([again.status, again.text]).toEqual([304, '']);
  });

  it('lets a write say which version it means', async () => {
    const { headers } = await call('/things/1');
    expect(headers.get('etag')).toBe(versionETag(version));
    expect((await put({ name: 'a' }, { 'if-match': '"v2"' })).json.error.code).toBe('PRECONDITION_FAILED');
    expect((await put({ name: 'a' }, { 'if-match': 'nonsense' })).status).toBe(412);
    expect((await put({ name: 'a' }, { 'if-match': headers.get('etag') ?? '' })).status).toBe(200);
    expect((await put({ name: 'a' }, { 'if-match': headers.get('etag') ?? '' })).status).toBe(412);
    expect((await put({ name: 'a' }, { 'if-match': '*' })).status).toBe(200);
    expect((await put({ name: 'a' })).status).toBe(200);
  });

  it('does not let writes and errors be stored', async () => {
    expect((await put({ name: 'a' })).headers.get('cache-control')).toBe('no-store');
    const missing = await call('/nothing');
    expect([missing.headers.get('cache-control'), missing.headers.get('etag')]).toEqual(['no-store', null]);
  });

  it('compresses what is worth it, and no event stream', async () => {
    const coding = (path: string, accept: string) =>
      new Promise<string | undefined>((resolve, reject) => {
        http
          .get(`${server.url}/api/v1${path}`, { headers: { 'accept-encoding': accept } }, (response) => {
            response.resume();
            resolve(response.headers['content-encoding']);
          })
          .on('error', reject);
      });
    expect(await coding('/things/large', 'gzip')).toBe('gzip');
    expect(await coding('/things/large', 'br, gzip')).toBe('br');
    expect(await coding('/things/large', 'identity')).toBeUndefined();
    expect(await coding('/wrapped', 'gzip')).toBeUndefined();
    expect(await coding('/things/stream', 'gzip')).toBeUndefined();
  });

  it('lets listed origins in, and no others', async () => {
    const preflight = (origin: string) =>
      call('/things/1', {
        method: 'OPTIONS',
        headers: { origin, 'access-control-request-method': 'PUT', 'access-control-request-headers': 'authorization' },
      });
    const allowed = await preflight('https://app.example.com');
    expect(allowed.status).toBe(204);
    expect(allowed.headers.get('access-control-allow-origin')).toBe('https://app.example.com');
    expect(allowed.headers.get('access-control-allow-credentials')).toBe('true');
    expect(allowed.headers.get('access-control-allow-headers')).toContain('Authorization');
    const refused = await preflight('https://evil.example.com');
    expect(refused.headers.get('access-control-allow-origin')).not.toBe('https://evil.example.com');
    const answer = await call('/things/1', { headers: { origin: 'https://app.example.com' } });
    expect(answer.headers.get('access-control-expose-headers')).toContain('X-RateLimit-Remaining');
  });

  it('sends security headers', async () => {
    const { headers } = await call('/things/1');
    expect(headers.get('content-security-policy')).toContain("default-src 'none'");
    expect(headers.get('strict-transport-security')).toContain('max-age=');
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('x-frame-options')).toBe('DENY');
    expect(headers.get('referrer-policy')).toBe('no-referrer');
    expect(headers.get('x-powered-by')).toBeNull();
  });

  it('announces the end of a route', async () => {
    const { headers } = await call('/things/old');
    expect(headers.get('deprecation')).toBe('@1767225600');
    expect(headers.get('sunset')).toBe('Wed, 01 Jul 2026 00:00:00 GMT');
  });

  it('repeats a safe request id, makes its own for others, and puts it into the body', async () => {
    const safe = await call('/nothing', { headers: { 'x-request-id': 'my.id:1' } });
    expect([safe.headers.get('x-request-id'), safe.json.request_id, safe.json.error.request_id]).toEqual(
      Array(3).fill('my.id:1'),
    );
    const unsafe = await call('/nothing', { headers: { 'x-request-id': 'a b<script>' } });
    expect(unsafe.headers.get('x-request-id')).toMatch(/^req_[0-9A-HJKMNP-TV-Z]{26}$/);
  });

  it('has one shape for every refusal', async () => {
    const cases: [string, RequestInit, number, string][] = [
      ['/nothing', {}, 404, 'RESOURCE_NOT_FOUND'],
      ['/things/1', { method: 'DELETE' }, 405, 'METHOD_NOT_ALLOWED'],
      ['/../../API/V99/things', {}, 404, 'UNSUPPORTED_VERSION'],
      ['/things/abc', {}, 400, 'VALIDATION_ERROR'],
      ['/things/%E0%A4%A', {}, 400, 'VALIDATION_ERROR'],
      ['/../v2/things', {}, 404, 'UNSUPPORTED_VERSION'],
      ['/../v99', {}, 404, 'UNSUPPORTED_VERSION'],
      ['/things/fault', {}, 500, 'INTERNAL_ERROR'],
      ['/things?limit=-1', {}, 400, 'VALIDATION_ERROR'],
      ['/things?limit=101', {}, 400, 'VALIDATION_ERROR'],
      ['/things?limit=1e9', {}, 400, 'VALIDATION_ERROR'],
      ['/things?limit=5&page=1', {}, 400, 'VALIDATION_ERROR'],
      ['/things?cursor=x', {}, 400, 'VALIDATION_ERROR'],
      ['/things?offset=9007199254740993', {}, 400, 'VALIDATION_ERROR'],
      ['/things?surprise=1', {}, 400, 'VALIDATION_ERROR'],
      ['/things?limit=1&limit=2', {}, 400, 'VALIDATION_ERROR'],
    ];
    for (const [path, init, status, code] of cases) {
      const { json, ...answer } = await call(path, init);
      expect([path, answer.status, json.error.code]).toEqual([path, status, code]);
      expect(json).toMatchObject({ success: false, request_id: answer.headers.get('x-request-id') });
      expect(json.timestamp).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      expect(answer.text).not.toMatch(/internals|at .*\.ts/);
    }
  });

  it('names every wrong field with what was expected there', async () => {
    const { status, json } = await put({ name: 5, size: 11, extra: true });
    expect(status).toBe(400);
    const details = json.error.details as { field: string; issue: string; reason: string; location: string }[];
    expect(details.map(({ field }) => field).sort()).toEqual(['extra', 'name', 'size']);
    for (const { issue, reason, location } of details) expect([reason, location]).toEqual([issue, 'body']);
    expect((await put('[1]')).status).toBe(400);
    expect((await put('null')).status).toBe(400);
    const broken = await put('{"name": "a",}');
    expect(JSON.stringify(broken.json.error.details)).toMatch(/position 13/);
  });
});

describe('settings of browsers', () => {
  it('refuses to start with credentials for every origin', () => {
    const env = { NEXUS_CORS_ORIGINS: '*', NEXUS_CORS_CREDENTIALS: 'true' };
    expect(() => readSettings(env)).toThrow(ConfigError);
    expect(() => readSettings(env)).toThrow(/NEXUS_CORS_CREDENTIALS/);
    expect(() => readSettings({ NEXUS_CORS_ORIGINS: 'app.example.com' })).toThrow(/NEXUS_CORS_ORIGINS/);
    expect(() => readSettings({ NEXUS_TRUSTED_PROXIES: '10.0.0.0/33' })).toThrow(/NEXUS_TRUSTED_PROXIES/);
    expect(() => readSettings({ NEXUS_RATE_LIMIT_COMMANDS: 'many' })).toThrow(/NEXUS_RATE_LIMIT_COMMANDS/);
  });

  it('opens nothing by default', async () => {
    const server = await startHarness([ThingsController]);
    try {
      const response = await fetch(`${server.url}/api/v1/things/1`, { headers: { origin: 'https://app.example.com' } });
      expect(response.headers.get('access-control-allow-origin')).toBeNull();
    } finally {
      await server.stop();
    }
  });
});
