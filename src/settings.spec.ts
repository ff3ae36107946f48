import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { ConfigError, type LoadedSettings, Settings, settingNames, settingsOf } from './platform/config/index.js';
import { readSettings, settingsClasses } from './settings.js';

/** Name, default, a value that is taken with what it becomes, and values that are refused. */
type Rule = [name: string, byDefault: unknown, given: string, becomes: unknown, refused: string[]];

const NOT_A_COUNT = ['0', '-1', '1.5', 'many', '1e99'];
const ALL_METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'];
const YES_NO = ['maybe', '2'];
const rate = (name: string, byDefault: string): Rule => [
  `NEXUS_RATE_LIMIT_${name}`,
  byDefault,
  '5/60',
  '5/60',
  ['5', '0/60', '5/0', '5 per minute', '-5/60', '5/60+', '5/60+x'],
];

const rules: Rule[] = [
  ['NEXUS_ROLE', 'all', 'api', 'api', ['king', 'ALL']],
  ['PORT', 8000, '0', 0, ['-1', '65536', 'http', '80.5']],
  ['NEXUS_HOST', '127.0.0.1', '::1', '::1', []],
  ['NEXUS_HOME', path.resolve('.nexus'), 'data', path.resolve('data'), []],
  ['DATABASE_URL', undefined, 'postgresql://db/n', 'postgresql://db/n', ['mysql://db/n', 'db']],
  ['DATABASE_DIRECT_URL', undefined, 'postgresql://db/n', 'postgresql://db/n', ['mysql://db/n']],
  ['REDIS_URL', undefined, 'rediss://cache', 'rediss://cache', ['http://cache']],
  ['NEXUS_DB_POOL', 12, '40', 40, ['1', '101', 'big']],
  ['NEXUS_ADMIN_PASSWORD', undefined, 'correct horse', 'correct horse', ['short', 'x'.repeat(129)]],
  ['NEXUS_ACCESS_TOKEN_TTL', 3600, '60', 60, ['59', '86401']],
  ['NEXUS_RATE_LIMITS', true, 'off', false, YES_NO],
  ['NEXUS_RATE_LIMIT_FAIL_OPEN', true, 'no', false, YES_NO],
  rate('TELEMETRY', '1000/60'),
  rate('TELEMETRY_BATCH', '100/60'),
  rate('COMMANDS', '100/60'),
  rate('OVERALL', '1000/60+100'),
  rate('WEBHOOKS', '1000/3600'),
  rate('AUTH', '10/600'),
  rate('DEFAULT', '1000/3600'),
  rate('ANONYMOUS', '100/3600'),
  rate('REFUSED', '100/300'),
  rate('AGENTS', '1000/60'),
  rate('EVENTS', '1000/60'),
  rate('HOOKS', '600/60'),
  rate('POLLING', '600/60'),
  ['NEXUS_TRUSTED_PROXIES', [], '10.0.0.0/8, ::1', ['10.0.0.0/8', '::1'], ['proxy', '10.0.0.0/99']],
  ['NEXUS_CORS_ORIGINS', [], 'https://a.example,*', ['https://a.example', '*'], ['a.example', 'https://a/b']],
  ['NEXUS_CORS_ENABLED', true, 'off', false, YES_NO],
  ['NEXUS_CORS_METHODS', ALL_METHODS, 'GET, PUT', ['GET', 'PUT'], ['get', 'GET,TRACE', '*']],
  ['NEXUS_CORS_CREDENTIALS', false, 'TRUE', true, YES_NO],
  ['NEXUS_METRICS_PUBLIC', undefined, '0', false, YES_NO],
  ['NEXUS_HEALTH_PUBLIC', undefined, 'false', false, YES_NO],
  ['NEXUS_DOCS_ENABLED', true, '0', false, YES_NO],
  ['NEXUS_DOCS_PUBLIC', true, 'false', false, YES_NO],
  ['NEXUS_LOG_LEVEL', 'info', 'silent', 'silent', ['loud']],
  ['NEXUS_LOCAL_AGENT', true, 'off', false, YES_NO],
  ['NEXUS_HEARTBEAT_SECONDS', 15, '300', 300, ['0', '301']],
  ['NEXUS_API_PREFIX', 'api/v1', 'v2', 'v2', ['/api', 'api/', 'API']],
  ['NEXUS_BODY_LIMIT', 1024 * 1024, '1024', 1024, ['1023', '10MB']],
  ['NEXUS_RESPONSE_COMPRESSION', true, 'off', false, YES_NO],
  ['NEXUS_REQUEST_TIMEOUT', 30, '600', 600, ['0', '601']],
  ['NEXUS_MAX_CONCURRENT_REQUESTS', 100, '1', 1, NOT_A_COUNT],
  ['NEXUS_COMMAND_OUTPUT_LIMIT', 16 * 1024 * 1024, '1024', 1024, ['1023']],
  ['NEXUS_COMMAND_RETENTION_DAYS', 30, '1', 1, [...NOT_A_COUNT, '3651']],
  ['NEXUS_AUDIT_RETENTION_DAYS', 365, '3650', 3650, [...NOT_A_COUNT, '3651']],
  ['NEXUS_EVENT_RETENTION_DAYS', 30, '3650', 3650, [...NOT_A_COUNT, '3651']],
  ['NEXUS_TELEMETRY_RETENTION_DAYS', 30, '7', 7, [...NOT_A_COUNT, '3651']],
  ['NEXUS_TELEMETRY_MAX_FUTURE_SECONDS', 300, '0', 0, ['-1', '86401']],
  ['NEXUS_TELEMETRY_MAX_SERIES', 100_000, '1', 1, NOT_A_COUNT],
];

const DATABASE = { DATABASE_URL: 'postgres://db/nexus' };

describe('A setting', () => {
  it.each(rules)('%s has its default, its rule and its effect', (name, byDefault, given, becomes, refused) => {
    expect(valueOf(readSettings({}), name)).toEqual(byDefault);
    expect(valueOf(readSettings({ [name]: '' }), name)).toEqual(byDefault);
    expect(valueOf(readSettings({ ...DATABASE, [name]: given }), name)).toEqual(becomes);
    for (const value of refused) {
      expect(() => readSettings({ ...DATABASE, [name]: value }), value).toThrow(
        new RegExp(`^Bad configuration:\\n  ${name}: `),
      );
    }
  });

  it('that is a number of any kind has a bound above and below', () => {
    const defaults = readSettings({});
    const numbers = settingNames(settingsClasses).filter((name) => typeof valueOf(defaults, name) === 'number');
    expect(numbers.length).toBeGreaterThan(15);
    for (const name of numbers) {
      for (const value of ['-1', '99999999999999', 'NaN', 'Infinity', '0x10']) {
        expect(() => readSettings({ [name]: value }), `${name}=${value}`).toThrow(ConfigError);
      }
    }
  });

  it.each([
    ['127.0.0.1', true],
    ['127.9.9.9', true],
    ['::1', true],
    ['::ffff:127.0.0.1', true],
    ['localhost', true],
    ['0.0.0.0', false],
    ['::', false],
    ['192.168.1.5', false],
    ['nexus.example', false],
  ])('for the host tells whether nobody else can ask: %s', (host, alone) => {
    expect(readSettings({ NEXUS_HOST: host }).get(Settings).loopbackOnly).toBe(alone);
  });

  it('is not set by a name that nobody knows, unless it belongs to the agent or a client', () => {
    expect(() => readSettings({ NEXUS_PROT: '80' })).toThrow('NEXUS_PROT: unknown setting');
    expect(() => readSettings({ NEXUS_AGENT_NAME: 'a', NEXUS_URL: 'http://x', NEXUS_API_KEY: 'k' })).not.toThrow();
  });

  it('does not let any page act as its visitor', () => {
    expect(() => readSettings({ NEXUS_CORS_ORIGINS: '*', NEXUS_CORS_CREDENTIALS: 'true' })).toThrow(
      'NEXUS_CORS_CREDENTIALS',
    );
  });

  it('never shows its value in a refusal', () => {
    const refusal = (): unknown =>
      readSettings({ DATABASE_URL: 'hunter2', NEXUS_ADMIN_PASSWORD: 'hunt', NEXUS_JWT_SECRET: 'hunter2' });
    expect(refusal).toThrow(ConfigError);
    expect(refusal).not.toThrow(/hunt/);
  });
});

function valueOf(settings: LoadedSettings, name: string): unknown {
  for (const type of settingsClasses) {
    const found = settingsOf(type).find(({ env }) => env === name);
    if (found) return (settings.get(type) as Record<string, unknown>)[found.property];
  }
  throw new Error(`${name} is no setting`);
}
