import path from 'node:path';
import { plainToInstance, Transform, type TransformFnParams } from 'class-transformer';
import {
  IsBoolean,
  IsIn,
  IsInt,
  IsOptional,
  IsString,
  Matches,
  Max,
  MaxLength,
  Min,
  MinLength,
  ValidateBy,
  validateSync,
} from 'class-validator';
import ipaddr from 'ipaddr.js';

const ROLES = ['all', 'api', 'worker'] as const;
const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;

/** Environment names of the settings, filled by {@link FromEnv}; used to name keys in errors and to refuse unknown ones. */
const envNames = new Map<string, string>();

function FromEnv(name: string): PropertyDecorator {
  return (_target, property) => void envNames.set(String(property), name);
}

const raw = ({ value }: TransformFnParams): unknown => value as unknown;
const toInt = (p: TransformFnParams): unknown => {
  const value = raw(p);
  return typeof value === 'string' && /^-?\d+$/.test(value) ? Number(value) : value;
};
const toBool = (p: TransformFnParams): unknown => {
  const value = raw(p);
  if (typeof value !== 'string') return value;
  if (['true', '1', 'on', 'yes'].includes(value.toLowerCase())) return true;
  return ['false', '0', 'off', 'no'].includes(value.toLowerCase()) ? false : value;
};
const toList = (p: TransformFnParams): unknown => {
  const value = raw(p);
  return typeof value === 'string'
    ? value
        .split(',')
        .map((s) => s.trim())
        .filter(Boolean)
    : value;
};

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'];
const ORIGIN = /^(\*|https?:\/\/[a-z0-9.-]+(:\d+)?)$/i;
const ORIGIN_MESSAGE = 'must be origins such as https://app.example.com, or *';

function RateSetting(name: string): PropertyDecorator {
  return (target, property) => {
    FromEnv(`NEXUS_RATE_LIMIT_${name}`)(target, property);
    IsOptional()(target, property);
    Matches(/^(off|[1-9]\d{0,8}\/[1-9]\d{0,5}(\+\d{1,9})?)$/, {
      message: 'must be requests/seconds or requests/seconds+burst, e.g. 1000/60 or 1000/60+100, or off',
    })(target, property);
  };
}

function NetworksOnly(): PropertyDecorator {
  return ValidateBy(
    {
      name: 'networks',
      validator: {
        validate: (value: unknown) => ipaddr.isValid(String(value)) || ipaddr.isValidCIDR(String(value)),
        defaultMessage: () => 'must be IP addresses or networks such as 10.0.0.0/8',
      },
    },
    { each: true },
  );
}

/** Every setting of the server: its environment name, its default and its rule. Parsed once, before Nest starts. */
export class Settings {
  /** Which part runs here: the API and the workers (`all`), only the API, or only the workers. */
  @FromEnv('NEXUS_ROLE') @IsIn(ROLES) role: (typeof ROLES)[number] = 'all';

  /** TCP port of the HTTP server; 0 takes a free one. */
  @FromEnv('PORT') @Transform(toInt) @IsInt() @Min(0) @Max(65535) port = 8000;

  /** Address to listen on; only this machine reaches the default, `0.0.0.0` takes requests from everywhere. */
  @FromEnv('NEXUS_HOST') @IsString() @MinLength(1) host = '127.0.0.1';

  /** Data folder: embedded database, generated secrets, the local agent's state. */
  @FromEnv('NEXUS_HOME')
  @Transform((p) => (typeof raw(p) === 'string' ? path.resolve(raw(p) as string) : raw(p)))
  @IsString()
  @MinLength(1)
  home: string = path.resolve('.nexus');

  /** External PostgreSQL; without it an embedded server is started in the data folder. */
  @FromEnv('DATABASE_URL')
  @IsOptional()
  @Matches(/^postgres(ql)?:\/\//, { message: 'must be a postgres:// URL' })
  databaseUrl?: string;

  /**
   * The same database without a pooler in transaction mode in between. With it `DATABASE_URL` may lead through one: what needs
   * a session of its own (queues, messages between processes, migrations) takes this address.
   */
  @FromEnv('DATABASE_DIRECT_URL')
  @IsOptional()
  @Matches(/^postgres(ql)?:\/\//, { message: 'must be a postgres:// URL' })
  databaseDirectUrl?: string;

  /** Start even when the database may lose committed data in a power failure, such as with `fsync` off. */
  @FromEnv('NEXUS_ALLOW_UNSAFE_DATABASE') @Transform(toBool) @IsBoolean() allowUnsafeDatabase = false;

  /** External Redis for queues, rate limits and the bus; without it PostgreSQL carries them. */
  @FromEnv('REDIS_URL')
  @IsOptional()
  @Matches(/^rediss?:\/\//, { message: 'must be a redis:// or rediss:// URL' })
  redisUrl?: string;

  /** Folder with `postgres` and `initdb`, when the bundled binaries do not run on this system. */
  @FromEnv('NEXUS_PG_BIN') @IsOptional() @IsString() pgBin?: string;

  /** Connections of the main pool. */
  @FromEnv('NEXUS_DB_POOL') @Transform(toInt) @IsInt() @Min(2) @Max(100) dbPool = 12;

  /** Password of the first administrator `admin` instead of a random one; used only when no user exists. */
  @FromEnv('NEXUS_ADMIN_PASSWORD') @IsOptional() @IsString() @MinLength(8) @MaxLength(128) adminPassword?: string;

  /**
   * Secrets of access tokens, comma-separated, each of at least 32 bytes: the first signs, all verify, so that one can be
   * replaced. Without it they are derived from the master keys. Replicas must share either.
   */
  @FromEnv('NEXUS_JWT_SECRET')
  @Transform(toList)
  @MinLength(32, { each: true, message: 'every secret must have at least 32 bytes' })
  jwtSecret: string[] = [];

  /**
   * PEM files of private keys (Ed25519, or RSA of 2048 bits) that sign access tokens instead of secrets, comma-separated:
   * the first signs, all verify; others check tokens with the public keys.
   */
  @FromEnv('NEXUS_JWT_KEY_FILES') @Transform(toList) @IsString({ each: true }) jwtKeyFiles: string[] = [];

  /** Seconds an access token of a login lives. */
  @FromEnv('NEXUS_ACCESS_TOKEN_TTL') @Transform(toInt) @IsInt() @Min(60) @Max(86_400) accessTokenTtl = 3600;

  /** `off` switches all rate limits off (load tests). */
  @FromEnv('NEXUS_RATE_LIMITS') @Transform(toBool) @IsBoolean() rateLimits = true;

  /** `id:base64,id:base64`, 32 bytes each: encrypt with the first, decrypt with all; without it a key file in the data folder. */
  @FromEnv('NEXUS_MASTER_KEYS') @IsOptional() @IsString() masterKeys?: string;

  /** Limits of single categories instead of the defaults: `requests/seconds`, `requests/seconds+burst`, or `off`. */
  @RateSetting('OVERALL') rateLimitOverall?: string;
  @RateSetting('TELEMETRY') rateLimitTelemetry?: string;
  @RateSetting('TELEMETRY_BATCH') rateLimitTelemetryBatch?: string;
  @RateSetting('COMMANDS') rateLimitCommands?: string;
  @RateSetting('EVENTS') rateLimitEvents?: string;
  @RateSetting('HOOKS') rateLimitHooks?: string;
  @RateSetting('POLLING') rateLimitPolling?: string;
  @RateSetting('AGENTS') rateLimitAgents?: string;
  @RateSetting('WEBHOOKS') rateLimitWebhooks?: string;
  @RateSetting('AUTH') rateLimitAuth?: string;
  @RateSetting('DEFAULT') rateLimitDefault?: string;
  @RateSetting('ANONYMOUS') rateLimitAnonymous?: string;
  @RateSetting('REFUSED') rateLimitRefused?: string;

  /** While Redis is away: `true` counts in each process for itself, `false` refuses limited requests with 503. */
  @FromEnv('NEXUS_RATE_LIMIT_FAIL_OPEN') @Transform(toBool) @IsBoolean() rateLimitFailOpen = true;

  /** Addresses and CIDRs of proxies whose `X-Forwarded-For` is believed, comma-separated. */
  @FromEnv('NEXUS_TRUSTED_PROXIES') @Transform(toList) @NetworksOnly() trustedProxies: string[] = [];

  /** `false` lets no page of another origin in, whatever origins are listed. */
  @FromEnv('NEXUS_CORS_ENABLED') @Transform(toBool) @IsBoolean() corsEnabled = true;

  /** Origins whose pages may call the API from a browser, comma-separated; `*` for all, empty for none. */
  @FromEnv('NEXUS_CORS_ORIGINS')
  @Transform(toList)
  @Matches(ORIGIN, { each: true, message: ORIGIN_MESSAGE })
  corsOrigins: string[] = [];

  /** Methods those pages may use. */
  @FromEnv('NEXUS_CORS_METHODS')
  @Transform(toList)
  @IsIn(METHODS, { each: true, message: `must be of ${METHODS.join(', ')}` })
  corsMethods: string[] = METHODS;

  /** Request headers those pages may send. */
  @FromEnv('NEXUS_CORS_HEADERS') @Transform(toList) @Matches(/^[A-Za-z0-9-]+$/, { each: true }) corsHeaders: string[] =
    ['Authorization', 'Content-Type', 'Idempotency-Key', 'If-Match', 'If-None-Match', 'X-API-Key', 'X-Request-ID'];

  /** Whether browsers may send credentials along; not together with the origin `*`. */
  @FromEnv('NEXUS_CORS_CREDENTIALS') @Transform(toBool) @IsBoolean() corsCredentials = false;

  /** `false` puts `/metrics` behind the scope `metrics:read`; not set: public only while {@link loopbackOnly}. */
  @FromEnv('NEXUS_METRICS_PUBLIC') @IsOptional() @Transform(toBool) @IsBoolean() metricsPublic?: boolean;

  /** `false` puts `/health/detailed` behind the scope `system:read`; not set: public only while {@link loopbackOnly}. */
  @FromEnv('NEXUS_HEALTH_PUBLIC') @IsOptional() @Transform(toBool) @IsBoolean() healthPublic?: boolean;

  /** `false` serves no documents: `/docs`, `/redoc` and `/openapi.*` answer 404. */
  @FromEnv('NEXUS_DOCS_ENABLED') @Transform(toBool) @IsBoolean() docsEnabled = true;

  /** `false` puts `/docs`, `/redoc` and `/openapi.*` behind the scope `system:read`. */
  @FromEnv('NEXUS_DOCS_PUBLIC') @Transform(toBool) @IsBoolean() docsPublic = true;

  /** Hosts and CIDRs that user-supplied URLs may reach besides public addresses, comma-separated. */
  @FromEnv('NEXUS_EGRESS_ALLOW') @Transform(toList) @IsString({ each: true }) egressAllow: string[] = [];

  @FromEnv('NEXUS_LOG_LEVEL') @IsIn(LOG_LEVELS) logLevel: (typeof LOG_LEVELS)[number] = 'info';

  /** With the embedded database in role `all` this machine joins as the agent `local`; `false` turns that off. */
  @FromEnv('NEXUS_LOCAL_AGENT') @Transform(toBool) @IsBoolean() localAgent = true;

  /** Seconds between two heartbeats of an agent; one that misses three is shown offline. */
  @FromEnv('NEXUS_HEARTBEAT_SECONDS') @Transform(toInt) @IsInt() @Min(1) @Max(300) heartbeatSeconds = 15;

  /** Names of labels that select agents for commands although the agents report them of themselves, comma-separated. */
  @FromEnv('NEXUS_AGENT_SELF_REPORTED_LABELS')
  @Transform(toList)
  @Matches(/^[A-Za-z0-9._/-]{1,63}$/, { each: true, message: 'must be names of labels' })
  agentSelfReportedLabels: string[] = [];

  /** Path before every API route. */
  @FromEnv('NEXUS_API_PREFIX') @Matches(/^[a-z0-9]+(\/[a-z0-9]+)*$/) apiPrefix = 'api/v1';

  /** Largest request body, in bytes (after decompression); where many things come at once (batches) it may have 10 MB anyway. */
  @FromEnv('NEXUS_BODY_LIMIT') @Transform(toInt) @IsInt() @Min(1024) @Max(1024 * 1024 * 1024) bodyLimit = 1024 * 1024;

  /** Whether answers are compressed (gzip, br) for callers that accept it; `off` where a proxy does so. */
  @FromEnv('NEXUS_RESPONSE_COMPRESSION') @Transform(toBool) @IsBoolean() responseCompression = true;

  /** Seconds after which a request is answered 504. */
  @FromEnv('NEXUS_REQUEST_TIMEOUT') @Transform(toInt) @IsInt() @Min(1) @Max(600) requestTimeout = 30;

  /** Requests in work at once, three quarters of them from one address; more are answered 503. */
  @FromEnv('NEXUS_MAX_CONCURRENT_REQUESTS') @Transform(toInt) @IsInt() @Min(1) @Max(100_000) maxConcurrentRequests =
    100;

  /** Bytes of output kept per command; an agent's output beyond them is taken and dropped. */
  @FromEnv('NEXUS_COMMAND_OUTPUT_LIMIT')
  @Transform(toInt)
  @IsInt()
  @Min(1024)
  @Max(1024 * 1024 * 1024)
  commandOutputLimit = 16 * 1024 * 1024;

  /** Days that finished commands and their output are kept. */
  @FromEnv('NEXUS_COMMAND_RETENTION_DAYS') @Transform(toInt) @IsInt() @Min(1) @Max(3650) commandRetentionDays = 30;

  /** Most alert rules there may be. */
  @FromEnv('NEXUS_ALERT_MAX_RULES') @Transform(toInt) @IsInt() @Min(1) @Max(10_000) alertMaxRules = 2000;

  /** Groups of one alert rule (such as sources) that may be pending or have an alert at the same time. */
  @FromEnv('NEXUS_ALERT_MAX_GROUPS') @Transform(toInt) @IsInt() @Min(1) @Max(10_000) alertMaxGroups = 1000;

  /** Days that cleared alerts are kept. */
  @FromEnv('NEXUS_ALERT_RETENTION_DAYS') @Transform(toInt) @IsInt() @Min(1) @Max(3650) alertRetentionDays = 90;

  /** Days that audit entries are kept, at least: whole months are dropped. */
  @FromEnv('NEXUS_AUDIT_RETENTION_DAYS') @Transform(toInt) @IsInt() @Min(1) @Max(3650) auditRetentionDays = 365;

  /** Days that domain events (`task.created`) are kept once every subscriber has its job. */
  @FromEnv('NEXUS_EVENT_RETENTION_DAYS') @Transform(toInt) @IsInt() @Min(1) @Max(3650) eventRetentionDays = 30;

  /** Days that events are kept that a handler could not take. */
  @FromEnv('NEXUS_DEAD_LETTER_RETENTION_DAYS') @Transform(toInt) @IsInt() @Min(1) @Max(3650) deadLetterRetentionDays =
    90;

  /** Days that background tasks (replay, purge) and their logs are kept after their end. */
  @FromEnv('NEXUS_TASK_RETENTION_DAYS') @Transform(toInt) @IsInt() @Min(1) @Max(3650) taskRetentionDays = 30;

  /** Event streams (WebSocket and server-sent events) that one key, token or login may hold open in one process. */
  @FromEnv('NEXUS_STREAM_CONNECTIONS') @Transform(toInt) @IsInt() @Min(1) @Max(5000) streamConnections = 50;

  /** Whether `?token=` may open a WebSocket of events: URLs end up in logs, so tickets are better. */
  @FromEnv('NEXUS_STREAM_TOKEN_IN_URL') @Transform(toBool) @IsBoolean() streamTokenInUrl = false;

  /** Days that single telemetry events are kept by their timestamp; of those that are older on arrival, by the time of receipt. */
  @FromEnv('NEXUS_TELEMETRY_RETENTION_DAYS') @Transform(toInt) @IsInt() @Min(1) @Max(3650) telemetryRetentionDays = 30;

  /** Days that telemetry rollups of one minute are kept. */
  @FromEnv('NEXUS_TELEMETRY_ROLLUP_1M_DAYS') @Transform(toInt) @IsInt() @Min(1) @Max(3650) telemetryRollup1mDays = 7;

  /** Days that telemetry rollups of five minutes are kept. */
  @FromEnv('NEXUS_TELEMETRY_ROLLUP_5M_DAYS') @Transform(toInt) @IsInt() @Min(1) @Max(3650) telemetryRollup5mDays = 30;

  /** Days that telemetry rollups of one hour are kept. */
  @FromEnv('NEXUS_TELEMETRY_ROLLUP_1H_DAYS') @Transform(toInt) @IsInt() @Min(1) @Max(36500) telemetryRollup1hDays = 365;

  /** Days that telemetry rollups of one day are kept. */
  @FromEnv('NEXUS_TELEMETRY_ROLLUP_1D_DAYS') @Transform(toInt) @IsInt() @Min(1) @Max(36500) telemetryRollup1dDays =
    1825;

  /** Seconds that the `timestamp` of a telemetry event may be ahead of the server's clock. */
  @FromEnv('NEXUS_TELEMETRY_MAX_FUTURE_SECONDS')
  @Transform(toInt)
  @IsInt()
  @Min(0)
  @Max(86_400)
  telemetryMaxFutureSeconds = 300;

  /** Most telemetry series (source, metric and tags); events past it are stored but not rolled up. */
  @FromEnv('NEXUS_TELEMETRY_MAX_SERIES') @Transform(toInt) @IsInt() @Min(1) @Max(10_000_000) telemetryMaxSeries =
    100_000;

  /** Most telemetry series of one source, so that it leaves room for the others. */
  @FromEnv('NEXUS_TELEMETRY_MAX_SERIES_PER_SOURCE')
  @Transform(toInt)
  @IsInt()
  @Min(1)
  @Max(10_000_000)
  telemetryMaxSeriesPerSource = 10_000;

  /** Requests at once to one webhook that answers well; one that fails gets one at a time. */
  @FromEnv('NEXUS_WEBHOOK_CONCURRENCY') @Transform(toInt) @IsInt() @Min(1) @Max(16) webhookConcurrency = 10;

  /** Seconds of nothing but failures after which a webhook is disabled. */
  @FromEnv('NEXUS_WEBHOOK_DISABLE_AFTER')
  @Transform(toInt)
  @IsInt()
  @Min(1)
  @Max(31_536_000)
  webhookDisableAfterSeconds = 5 * 86_400;

  /** Failures in a row after which a webhook is disabled, however little time they took; 0 for never. */
  @FromEnv('NEXUS_WEBHOOK_DISABLE_AFTER_FAILURES')
  @Transform(toInt)
  @IsInt()
  @Min(0)
  @Max(1_000_000)
  webhookDisableAfterFailures = 0;

  /** Most webhooks there may be, those of event subscriptions included: each keeps its own copy of every event that it gets. */
  @FromEnv('NEXUS_WEBHOOK_MAX') @Transform(toInt) @IsInt() @Min(1) @Max(10_000) webhookMax = 500;

  /** Days that finished deliveries and their log are kept. */
  @FromEnv('NEXUS_WEBHOOK_RETENTION_DAYS') @Transform(toInt) @IsInt() @Min(1) @Max(3650) webhookRetentionDays = 30;

  /** What the operator has set for a category of rate limits. */
  rateLimitOf(category: string): string | undefined {
    const property = `rateLimit_${category}`.replace(/_([a-z])/g, (_match, letter: string) => letter.toUpperCase());
    return this[property as 'rateLimitTelemetry'];
  }

  /** True when only programs of this machine can reach the server. */
  get loopbackOnly(): boolean {
    if (this.host.toLowerCase() === 'localhost') return true;
    return ipaddr.isValid(this.host) && ipaddr.process(this.host).range() === 'loopback';
  }
  get embedded(): boolean {
    return this.databaseUrl === undefined;
  }
  /** Whether the pools of `DATABASE_URL` share their sessions with others from one transaction to the next. */
  get sharesSessions(): boolean {
    return this.databaseDirectUrl !== undefined;
  }
  get runsApi(): boolean {
    return this.role !== 'worker';
  }
  get runsWorkers(): boolean {
    return this.role !== 'api';
  }
}

/** Environment names of all settings. */
export function settingNames(): string[] {
  return [...envNames.values()];
}

/** Names every wrong key, never a value (values can be secrets). */
export class ConfigError extends Error {}

/** Names that belong to the agent package, the client SDKs and the tests, allowed in the same environment. */
const FOREIGN = /^NEXUS_(AGENT_|URL$|API_KEY$|BASE_URL$|TIMEOUT$|RETRY_ATTEMPTS$|TEST_)/;

/**
 * Reads settings from an environment. An empty variable counts as not set.
 * @throws ConfigError naming every wrong and every unknown `NEXUS_*` key
 */
export function loadSettings(env: NodeJS.ProcessEnv): Settings {
  const given: Record<string, string> = {};
  for (const [property, name] of envNames) {
    const value = env[name];
    if (value !== undefined && value !== '') given[property] = value;
  }
  const settings = plainToInstance(Settings, given, { exposeDefaultValues: true });
  const problems = validateSync(settings, { forbidUnknownValues: true }).map(
    (e) =>
      `${envNames.get(e.property)}: ${Object.values(e.constraints ?? {})
        .join(', ')
        .replaceAll(e.property, 'value')}`,
  );
  const known = new Set(envNames.values());
  for (const name of Object.keys(env)) {
    if (name.startsWith('NEXUS_') && !known.has(name) && !FOREIGN.test(name)) problems.push(`${name}: unknown setting`);
  }
  if (settings.corsCredentials === true && settings.corsOrigins.includes('*')) {
    problems.push(
      'NEXUS_CORS_CREDENTIALS: cannot be on while NEXUS_CORS_ORIGINS is * (any page could act as its visitor)',
    );
  }
  if (problems.length === 0 && settings.embedded && settings.databaseDirectUrl !== undefined) {
    problems.push('DATABASE_DIRECT_URL: has no meaning without DATABASE_URL');
  }
  if (problems.length === 0 && settings.embedded && settings.role !== 'all') {
    problems.push(
      `DATABASE_URL: required when NEXUS_ROLE is ${settings.role} (the embedded database serves one process)`,
    );
  }
  if (problems.length > 0) throw new ConfigError(`Bad configuration:\n${problems.map((p) => `  ${p}`).join('\n')}`);
  if (!settings.corsEnabled) settings.corsOrigins = [];
  settings.metricsPublic ??= settings.loopbackOnly;
  settings.healthPublic ??= settings.loopbackOnly;
  return settings;
}
