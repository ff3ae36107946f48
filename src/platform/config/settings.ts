import path from 'node:path';
import { Transform } from 'class-transformer';
import { IsIn, IsOptional, IsString, Matches, MinLength, ValidateBy } from 'class-validator';
import ipaddr from 'ipaddr.js';
import { days, flag, int, list, optionalMatch, RateLimitSetting, Setting } from './setting.js';

const ROLES = ['all', 'api', 'worker'] as const;
const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'];
const HEADERS = [
  ...['Authorization', 'Content-Type', 'Idempotency-Key', 'If-Match', 'If-None-Match', 'X-API-Key', 'X-Request-ID'],
];
const ORIGIN = /^(\*|https?:\/\/[a-z0-9.-]+(:\d+)?)$/i;

const network = (): PropertyDecorator =>
  ValidateBy(
    {
      name: 'networks',
      validator: {
        validate: (value: unknown) => ipaddr.isValid(String(value)) || ipaddr.isValidCIDR(String(value)),
        defaultMessage: () => 'must be IP addresses or networks such as 10.0.0.0/8',
      },
    },
    { each: true },
  );
const absolute = Transform(({ value }: { value: unknown }) =>
  typeof value === 'string' ? path.resolve(value) : value,
);

/** Settings of the platform; each domain has a class of its own. Parsed once, before Nest starts. */
export class Settings {
  static readonly title = 'Server';

  @Setting(
    'DATABASE_URL',
    'External PostgreSQL 15 or newer, postgres://user:password@host:5432/database; empty: an embedded one in the data folder',
    optionalMatch(/^postgres(ql)?:\/\//, 'must be a postgres:// URL'),
  )
  databaseUrl?: string;

  @Setting(
    'DATABASE_DIRECT_URL',
    'The same database without a pooler, or behind one in session mode; needed where `DATABASE_URL` leads through one in transaction mode',
    optionalMatch(/^postgres(ql)?:\/\//, 'must be a postgres:// URL'),
  )
  databaseDirectUrl?: string;

  @Setting(
    'NEXUS_ALLOW_UNSAFE_DATABASE',
    'Start although `fsync`, `full_page_writes` or `synchronous_commit` is off on the database: accepted data may be lost in a power cut',
    flag(),
  )
  allowUnsafeDatabase = false;

  @Setting('NEXUS_DB_POOL', 'Connections for requests', int(2, 100)) dbPool = 12;

  @Setting(
    'NEXUS_HOME',
    'Data folder: embedded database, generated secrets, state of the local agent',
    absolute,
    MinLength(1),
  )
  home: string = path.resolve('.nexus');

  @Setting(
    'NEXUS_HOST',
    'Address to listen on; only this machine reaches the default, `0.0.0.0` takes requests from everywhere',
    IsString(),
    MinLength(1),
  )
  host = '127.0.0.1';

  @Setting('NEXUS_LOG_LEVEL', 'fatal, error, warn, info, debug, trace or silent', IsIn(LOG_LEVELS))
  logLevel: (typeof LOG_LEVELS)[number] = 'info';

  @Setting(
    'NEXUS_PG_BIN',
    'Folder with `postgres` and `initdb`, where the bundled ones do not run',
    IsOptional(),
    IsString(),
  )
  pgBin?: string;

  @Setting('NEXUS_ROLE', 'What runs in this process: all, api (requests) or worker (jobs)', IsIn(ROLES))
  role: (typeof ROLES)[number] = 'all';

  @Setting('PORT', 'TCP port; 0 takes a free one', int(0, 65535)) port = 8000;

  @Setting(
    'REDIS_URL',
    'External Redis for queues, rate limits and the bus, redis://host:6379; empty: PostgreSQL carries them',
    optionalMatch(/^rediss?:\/\//, 'must be a redis:// or rediss:// URL'),
  )
  redisUrl?: string;

  @Setting(
    'NEXUS_MASTER_KEYS',
    'Keys that encrypt stored secrets, `id:base64` of 32 random bytes each, comma-separated: the first encrypts, all decrypt; [how to replace one](docs/operations.md#master-keys). Without it a key is generated in the data folder; the roles `api` and `worker` must be given the same keys',
    IsOptional(),
    IsString(),
  )
  masterKeys?: string;

  @Setting(
    'NEXUS_EGRESS_ALLOW',
    'Hosts, host:port, addresses and CIDRs that user-supplied URLs may reach besides public addresses, comma-separated',
    list(IsString({ each: true })),
  )
  egressAllow: string[] = [];

  @Setting(
    'NEXUS_API_PREFIX',
    'Path before every API route and the WebSockets; probes, metrics, documents and `/agent/nexus-agent.tgz` stay at the root',
    Matches(/^[a-z0-9]+(\/[a-z0-9]+)*$/),
  )
  apiPrefix = 'api/v1';

  @Setting(
    'NEXUS_BODY_LIMIT',
    'Largest request body in bytes, after decompression; a batch may have 10485760 anyway',
    int(1024, 1024 * 1024 * 1024),
  )
  bodyLimit = 1024 * 1024;

  @Setting(
    'NEXUS_CORS_CREDENTIALS',
    'Whether browsers may send credentials along; not together with the origin *',
    flag(),
  )
  corsCredentials = false;

  @Setting('NEXUS_CORS_ENABLED', 'false: no page of another origin may call the API, whatever is listed', flag())
  corsEnabled = true;

  @Setting(
    'NEXUS_CORS_HEADERS',
    'Request headers that pages of other origins may send',
    list(Matches(/^[A-Za-z0-9-]+$/, { each: true })),
  )
  corsHeaders: string[] = HEADERS;

  @Setting(
    'NEXUS_CORS_METHODS',
    'Methods that pages of other origins may use',
    list(IsIn(METHODS, { each: true, message: `must be of ${METHODS.join(', ')}` })),
  )
  corsMethods: string[] = METHODS;

  @Setting(
    'NEXUS_CORS_ORIGINS',
    'Origins whose pages may call the API from a browser, comma-separated; * for all',
    list(Matches(ORIGIN, { each: true, message: 'must be origins such as https://app.example.com, or *' })),
  )
  corsOrigins: string[] = [];

  @Setting('NEXUS_DOCS_ENABLED', 'false: /docs, /redoc and /openapi.* answer 404', flag()) docsEnabled = true;

  @Setting('NEXUS_DOCS_PUBLIC', 'false: /docs, /redoc and /openapi.* need the scope system:read', flag())
  docsPublic = true;

  @Setting(
    'NEXUS_MAX_CONCURRENT_REQUESTS',
    'Requests in work at once, three quarters of them from one address; more are answered 503',
    int(1, 100_000),
  )
  maxConcurrentRequests = 100;

  @Setting('NEXUS_REQUEST_TIMEOUT', 'Seconds after which a request is answered 504', int(1, 600)) requestTimeout = 30;

  @Setting(
    'NEXUS_RESPONSE_COMPRESSION',
    'Whether answers are compressed (gzip, br) for callers that accept it; off where a proxy does so',
    flag(),
  )
  responseCompression = true;

  @Setting(
    'NEXUS_TRUSTED_PROXIES',
    'Addresses and networks of proxies whose X-Forwarded-For is believed, comma-separated',
    list(network()),
  )
  trustedProxies: string[] = [];

  @Setting('NEXUS_RATE_LIMITS', 'off: no rate limits at all', flag()) rateLimits = true;

  @Setting(
    'NEXUS_RATE_LIMIT_FAIL_OPEN',
    'While Redis is away: true counts in each process for itself, false refuses limited requests with 503',
    flag(),
  )
  rateLimitFailOpen = true;

  @RateLimitSetting(
    'overall',
    'Limit of everything of a principal together that has no high limit of its own, on top of the limit of its kind; with `+burst` (every limit may have one) so many more at once, refilled steadily',
  )
  overallRateLimit = '1000/60+100';

  @RateLimitSetting('agents', 'Limit of what each agent asks for that has no limit of its kind', { alone: true })
  agentsRateLimit = '1000/60';

  @RateLimitSetting('anonymous', 'Limit of requests without a credential, per address', { alone: true })
  anonymousRateLimit = '100/3600';

  @RateLimitSetting('default', 'Limit of everything else, per principal') defaultRateLimit = '1000/3600';

  @RateLimitSetting('polling', 'Limit of asking how far commands, replays and purges have come', { alone: true })
  pollingRateLimit = '600/60';

  @RateLimitSetting(
    'refused',
    'Limit of wrong credentials, per address; past it no credential from there is looked at',
    { alone: true },
  )
  refusedRateLimit = '100/300';

  @Setting('NEXUS_EVENT_RETENTION_DAYS', 'Days that domain events are kept once every subscriber has its job', days())
  eventRetentionDays = 30;

  @Setting('NEXUS_DEAD_LETTER_RETENTION_DAYS', 'Days that events are kept that a handler could not take', days())
  deadLetterRetentionDays = 90;

  @Setting(
    'NEXUS_TASK_RETENTION_DAYS',
    'Days that background tasks (replay, purge) and their logs are kept after their end',
    days(),
  )
  taskRetentionDays = 30;

  @Setting(
    'NEXUS_STREAM_CONNECTIONS',
    'Event streams (WebSocket and server-sent events) and followed command logs that one key, token or login may hold open in one process',
    int(1, 5000),
  )
  streamConnections = 50;

  @Setting(
    'NEXUS_STREAM_TOKEN_IN_URL',
    'Whether a WebSocket of events may be opened with `?token=`; URLs end up in logs, so tickets are better',
    flag(),
  )
  streamTokenInUrl = false;

  /** True when only programs of this machine can reach the server. */
  get loopbackOnly(): boolean {
    if (this.host.toLowerCase() === 'localhost') return true;
    return ipaddr.isValid(this.host) && ipaddr.process(this.host).range() === 'loopback';
  }
  /** The origins whose pages may call the API: none while CORS is off. */
  get allowedOrigins(): string[] {
    return this.corsEnabled ? this.corsOrigins : [];
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

  problems(): string[] {
    const problems: string[] = [];
    if (this.corsCredentials && this.corsOrigins.includes('*')) {
      problems.push(
        'NEXUS_CORS_CREDENTIALS: cannot be on while NEXUS_CORS_ORIGINS is * (any page could act as its visitor)',
      );
    }
    if (this.embedded && this.databaseDirectUrl !== undefined) {
      problems.push('DATABASE_DIRECT_URL: has no meaning without DATABASE_URL');
    }
    if (this.embedded && this.role !== 'all') {
      problems.push(
        `DATABASE_URL: required when NEXUS_ROLE is ${this.role} (the embedded database serves one process)`,
      );
    }
    return problems;
  }
}
