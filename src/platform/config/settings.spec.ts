import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { ConfigError, loadSettings, type Settings, settingNames } from './settings.js';

type Value = Exclude<keyof Settings, 'rateLimitOf'>;

/** Name, property, default, a value that is taken with what it becomes, and values that are refused. */
type Rule = [name: string, property: Value, byDefault: unknown, given: string, becomes: unknown, refused: string[]];

const NOT_A_COUNT = ['0', '-1', '1.5', 'many', '1e99'];
const ALL_METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'];
const YES_NO = ['maybe', '2'];
const rate = (name: string, property: Value): Rule => [
  `NEXUS_RATE_LIMIT_${name}`,
  property,
  undefined,
  '5/60',
  '5/60',
  ['5', '0/60', '5/0', '5 per minute', '-5/60', '5/60+', '5/60+x'],
];

const rules: Rule[] = [
  ['NEXUS_ROLE', 'role', 'all', 'api', 'api', ['king', 'ALL']],
  ['PORT', 'port', 8000, '0', 0, ['-1', '65536', 'http', '80.5']],
  ['NEXUS_HOST', 'host', '127.0.0.1', '::1', '::1', []],
  ['NEXUS_HOME', 'home', path.resolve('.nexus'), 'data', path.resolve('data'), []],
  ['DATABASE_URL', 'databaseUrl', undefined, 'postgresql://db/n', 'postgresql://db/n', ['mysql://db/n', 'db']],
  ['DATABASE_DIRECT_URL', 'databaseDirectUrl', undefined, 'postgresql://db/n', 'postgresql://db/n', ['mysql://db/n']],
  ['REDIS_URL', 'redisUrl', undefined, 'rediss://cache', 'rediss://cache', ['http://cache']],
  ['NEXUS_DB_POOL', 'dbPool', 12, '40', 40, ['1', '101', 'big']],
  ['NEXUS_ADMIN_PASSWORD', 'adminPassword', undefined, 'correct horse', 'correct horse', ['short', 'x'.repeat(129)]],
  ['NEXUS_ACCESS_TOKEN_TTL', 'accessTokenTtl', 3600, '60', 60, ['59', '86401']],
  ['NEXUS_RATE_LIMITS', 'rateLimits', true, 'off', false, YES_NO],
  ['NEXUS_RATE_LIMIT_FAIL_OPEN', 'rateLimitFailOpen', true, 'no', false, YES_NO],
  rate('TELEMETRY', 'rateLimitTelemetry'),
  rate('TELEMETRY_BATCH', 'rateLimitTelemetryBatch'),
  rate('COMMANDS', 'rateLimitCommands'),
  rate('OVERALL', 'rateLimitOverall'),
  rate('WEBHOOKS', 'rateLimitWebhooks'),
  rate('AUTH', 'rateLimitAuth'),
  rate('DEFAULT', 'rateLimitDefault'),
  rate('ANONYMOUS', 'rateLimitAnonymous'),
  rate('REFUSED', 'rateLimitRefused'),
  ['NEXUS_TRUSTED_PROXIES', 'trustedProxies', [], '10.0.0.0/8, ::1', ['10.0.0.0/8', '::1'], ['proxy', '10.0.0.0/99']],
  [
    'NEXUS_CORS_ORIGINS',
    'corsOrigins',
    [],
    'https://a.example,*',
    ['https://a.example', '*'],
    ['a.example', 'https://a/b'],
  ],
  ['NEXUS_CORS_ENABLED', 'corsEnabled', true, 'off', false, YES_NO],
  ['NEXUS_CORS_METHODS', 'corsMethods', ALL_METHODS, 'GET, PUT', ['GET', 'PUT'], ['get', 'GET,TRACE', '*']],
  ['NEXUS_CORS_CREDENTIALS', 'corsCredentials', false, 'TRUE', true, YES_NO],
  ['NEXUS_METRICS_PUBLIC', 'metricsPublic', true, '0', false, YES_NO],
  ['NEXUS_HEALTH_PUBLIC', 'healthPublic', true, 'false', false, YES_NO],
  ['NEXUS_DOCS_ENABLED', 'docsEnabled', true, '0', false, YES_NO],
  ['NEXUS_DOCS_PUBLIC', 'docsPublic', true, 'false', false, YES_NO],
  ['NEXUS_LOG_LEVEL', 'logLevel', 'info', 'silent', 'silent', ['loud']],
  ['NEXUS_LOCAL_AGENT', 'localAgent', true, 'off', false, YES_NO],
  ['NEXUS_HEARTBEAT_SECONDS', 'heartbeatSeconds', 15, '300', 300, ['0', '301']],
  ['NEXUS_API_PREFIX', 'apiPrefix', 'api/v1', 'v2', 'v2', ['/api', 'api/', 'API']],
  ['NEXUS_BODY_LIMIT', 'bodyLimit', 1024 * 1024, '1024', 1024, ['1023', '10MB']],
  ['NEXUS_RESPONSE_COMPRESSION', 'responseCompression', true, 'off', false, YES_NO],
  ['NEXUS_REQUEST_TIMEOUT', 'requestTimeout', 30, '600', 600, ['0', '601']],
  ['NEXUS_MAX_CONCURRENT_REQUESTS', 'maxConcurrentRequests', 100, '1', 1, NOT_A_COUNT],
  ['NEXUS_COMMAND_OUTPUT_LIMIT', 'commandOutputLimit', 16 * 1024 * 1024, '1024', 1024, ['1023']],
  ['NEXUS_COMMAND_RETENTION_DAYS', 'commandRetentionDays', 30, '1', 1, [...NOT_A_COUNT, '3651']],
  ['NEXUS_AUDIT_RETENTION_DAYS', 'auditRetentionDays', 365, '3650', 3650, [...NOT_A_COUNT, '3651']],
  ['NEXUS_EVENT_RETENTION_DAYS', 'eventRetentionDays', 30, '3650', 3650, [...NOT_A_COUNT, '3651']],
  ['NEXUS_TELEMETRY_RETENTION_DAYS', 'telemetryRetentionDays', 30, '7', 7, [...NOT_A_COUNT, '3651']],
  ['NEXUS_TELEMETRY_MAX_FUTURE_SECONDS', 'telemetryMaxFutureSeconds', 300, '0', 0, ['-1', '86401']],
  ['NEXUS_TELEMETRY_MAX_SERIES', 'telemetryMaxSeries', 100_000, '1', 1, NOT_A_COUNT],
];

const DATABASE = { DATABASE_URL: 'postgres://db/nexus' };

describe('A setting', () => {
  it.each(rules)(
    '%s has its default, its rule and its effect',
    (name, property, byDefault, given, becomes, refused) => {
      expect(loadSettings({})[property]).toEqual(byDefault);
      expect(loadSettings({ [name]: '' })[property]).toEqual(byDefault);
      expect(loadSettings({ ...DATABASE, [name]: given })[property]).toEqual(becomes);
      for (const value of refused) {
        expect(() => loadSettings({ ...DATABASE, [name]: value }), value).toThrow(
          new RegExp(`^Bad configuration:\\n  ${name}: `),
        );
      }
    },
  );

  it('that is a number of any kind has a bound above and below', () => {
    const defaults = loadSettings({});
    const numbers = settingNames().filter((name) => typeof valueOf(defaults, name) === 'number');
    expect(numbers.length).toBeGreaterThan(15);
    for (const name of numbers) {
      for (const value of ['-1', '99999999999999', 'NaN', 'Infinity', '0x10']) {
        expect(() => loadSettings({ [name]: value }), `${name}=${value}`).toThrow(ConfigError);
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
  ])('that opens metrics and health is on by itself only where nobody else can ask: %s', (host, open) => {
    expect(loadSettings({ NEXUS_HOST: host })).toMatchObject({ metricsPublic: open, healthPublic: open });
    const said = { NEXUS_HOST: host, NEXUS_METRICS_PUBLIC: String(!open), NEXUS_HEALTH_PUBLIC: String(!open) };
    expect(loadSettings(said)).toMatchObject({ metricsPublic: !open, healthPublic: !open });
  });

  it('is not set by a name that nobody knows, unless it belongs to the agent or a client', () => {
    expect(() => loadSettings({ NEXUS_PROT: '80' })).toThrow('NEXUS_PROT: unknown setting');
    expect(() => loadSettings({ NEXUS_AGENT_NAME: 'a', NEXUS_URL: 'http://x', NEXUS_API_KEY: 'k' })).not.toThrow();
  });

  it('does not let any page act as its visitor', () => {
    expect(() => loadSettings({ NEXUS_CORS_ORIGINS: '*', NEXUS_CORS_CREDENTIALS: 'true' })).toThrow(
      'NEXUS_CORS_CREDENTIALS',
    );
  });

  it('never shows its value in a refusal', () => {
    const refusal = (): unknown =>
      loadSettings({ DATABASE_URL: 'hunter2', NEXUS_ADMIN_PASSWORD: 'hunt', NEXUS_JWT_SECRET: 'hunter2' });
    expect(refusal).toThrow(ConfigError);
    expect(refusal).not.toThrow(/hunt/);
  });
});

/** What a setting is by default, through the one place that knows its property: its own value set to nothing. */
function valueOf(defaults: Settings, name: string): unknown {
  const wanted = name
    .replace(/^NEXUS_/, '')
    .replaceAll('_', '')
    .toLowerCase();
  return Object.entries(defaults).find(([property]) => property.toLowerCase() === wanted)?.[1] as unknown;
}
