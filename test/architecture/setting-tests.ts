const SETTINGS = 'test/system/settings.e2e-spec.ts';
const RATES = 'test/http/rate-limits.e2e-spec.ts';
const START = 'test/start/start.e2e-spec.ts';
const PROBES = 'test/system/probes.e2e-spec.ts';
const ORIGINS = 'lets listed origins in, and no others';
const BY_SCOPE = 'asks for a scope when a setting says so';
const ROLLUPS = 'keeps rollups of each resolution for its days, and one more';
const CATEGORIES = 'counts categories apart; off means no limit';
const PASSWORD = 'takes the password from .env, does not show it, and runs no agent where none is wanted';

/** The test that shows what each setting does, with a value other than its default. */
export const settingTests: Record<string, [file: string, title: string]> = {
  DATABASE_DIRECT_URL: ['test/scale/poolers.e2e-spec.ts', 'keeps its schedules and fails at none of their jobs'],
  DATABASE_URL: [START, 'for a database that cannot be reached'],
  NEXUS_ACCESS_TOKEN_TTL: [
    'test/security/login.e2e-spec.ts',
    'answers with user, tokens and session, whatever the case of the name',
  ],
  NEXUS_ADMIN_PASSWORD: [START, PASSWORD],
  NEXUS_AGENT_SELF_REPORTED_LABELS: [
    'test/agents/agents.e2e-spec.ts',
    'selects by labels that an agent reports only where a setting lists their names',
  ],
  NEXUS_ALERT_MAX_GROUPS: ['test/alerts/rules.e2e-spec.ts', 'open no more groups than are allowed'],
  NEXUS_ALERT_MAX_RULES: ['test/alerts/rules.e2e-spec.ts', 'are no more than are allowed'],
  NEXUS_ALERT_RETENTION_DAYS: [
    SETTINGS,
    'deletes alerts that were cleared, and silences that ended, longer ago than their retention',
  ],
  NEXUS_ALLOW_UNSAFE_DATABASE: ['test/platform/preflight.e2e-spec.ts', 'is refused when %s is off'],
  NEXUS_API_PREFIX: [
    SETTINGS,
    'answers every route there, probes and documents at the root, and nothing under the default',
  ],
  NEXUS_AUDIT_RETENTION_DAYS: [
    'test/security/audit-trail.e2e-spec.ts',
    'are made ahead, and dropped whole once the retention is over',
  ],
  NEXUS_BODY_LIMIT: [SETTINGS, 'takes a body up to its limit, and none larger'],
  NEXUS_COMMAND_OUTPUT_LIMIT: [
    'test/commands/logs.e2e-spec.ts',
    'beyond the limit is taken and dropped, and the result says so',
  ],
  NEXUS_COMMAND_RETENTION_DAYS: [
    'test/commands/executors.e2e-spec.ts',
    'deletes what finished long ago, with its children and output, and nothing else',
  ],
  NEXUS_CORS_CREDENTIALS: ['test/http/answers.e2e-spec.ts', ORIGINS],
  NEXUS_CORS_ENABLED: [SETTINGS, 'lets no page of another origin in when that is off, listed or not'],
  NEXUS_CORS_HEADERS: [SETTINGS, 'lets pages of other origins send the listed headers and methods'],
  NEXUS_CORS_METHODS: [SETTINGS, 'lets pages of other origins send the listed headers and methods'],
  NEXUS_CORS_ORIGINS: ['test/http/answers.e2e-spec.ts', ORIGINS],
  NEXUS_DB_POOL: [SETTINGS, 'opens so many connections for requests, and no more'],
  NEXUS_DEAD_LETTER_RETENTION_DAYS: [
    'test/platform/dead-letters.e2e-spec.ts',
    'are also made of jobs that ended their process each time, and go after their retention',
  ],
  NEXUS_DOCS_ENABLED: [SETTINGS, 'has no documents when they are off'],
  NEXUS_DOCS_PUBLIC: [PROBES, BY_SCOPE],
  NEXUS_EGRESS_ALLOW: ['test/webhooks/ssrf.e2e-spec.ts', 'of an allowed receiver to this machine is not followed'],
  NEXUS_EVENT_RETENTION_DAYS: [
    'test/platform/outbox.e2e-spec.ts',
    'deletes relayed events past it in batches, and none that was not relayed',
  ],
  NEXUS_HEALTH_PUBLIC: [PROBES, BY_SCOPE],
  NEXUS_HEARTBEAT_SECONDS: ['test/agents/agents.e2e-spec.ts', 'keep an agent active; without them it goes offline'],
  NEXUS_HOME: ['test/agents/local-agent.e2e-spec.ts', 'joins by itself, and comes back after its process was killed'],
  NEXUS_HOST: [START, 'for an address that is not this machine’s'],
  NEXUS_JWT_KEY_FILES: [
    'src/security/access/access-tokens.spec.ts',
    'sign tokens that others check with the published key',
  ],
  NEXUS_JWT_SECRET: [
    'test/security/login.e2e-spec.ts',
    'made by hand with the right key and claims is taken (so the refusals below are for their reason)',
  ],
  NEXUS_LOCAL_AGENT: [START, PASSWORD],
  NEXUS_LOG_LEVEL: [SETTINGS, 'logs from its level on'],
  NEXUS_MASTER_KEYS: ['test/security/first-run.e2e-spec.ts', 'must be those of the database, also after a rotation'],
  NEXUS_MAX_CONCURRENT_REQUESTS: [
    'test/http/limits.e2e-spec.ts',
    'are bounded: more get 503 and when to come back; probes and streams hold no place',
  ],
  NEXUS_METRICS_PUBLIC: [PROBES, BY_SCOPE],
  NEXUS_PG_BIN: [START, 'for a folder of PostgreSQL without its programs'],
  NEXUS_RATE_LIMITS: [RATES, 'does not believe X-Forwarded-For, and off means no limits and no headers'],
  NEXUS_RATE_LIMIT_AGENTS: [RATES, 'counts polling, and whatever an agent asks for, in limits of their own'],
  NEXUS_RATE_LIMIT_ANONYMOUS: [
    RATES,
    'counts strangers by address: unknown routes, open routes and missing credentials alike',
  ],
  NEXUS_RATE_LIMIT_AUTH: [RATES, 'limits logins by address'],
  NEXUS_RATE_LIMIT_COMMANDS: [RATES, CATEGORIES],
  NEXUS_RATE_LIMIT_DEFAULT: [RATES, 'counts a principal whatever address it calls from, and says so in every answer'],
  NEXUS_RATE_LIMIT_EVENTS: ['test/events/events.e2e-spec.ts', 'is its own'],
  NEXUS_RATE_LIMIT_FAIL_OPEN: [
    RATES,
    'let requests through while Redis is away, or answer 503, as NEXUS_RATE_LIMIT_FAIL_OPEN says',
  ],
  NEXUS_RATE_LIMIT_HOOKS: [
    'test/hooks/hooks.e2e-spec.ts',
    'are per hook for those who can sign, and per address for the others',
  ],
  NEXUS_RATE_LIMIT_OVERALL: [
    RATES,
    'counts all that a principal does together as well, with a burst; the tightest limit is told',
  ],
  NEXUS_RATE_LIMIT_POLLING: [RATES, 'counts polling, and whatever an agent asks for, in limits of their own'],
  NEXUS_RATE_LIMIT_REFUSED: [RATES, 'stops looking at credentials of an address that keeps guessing'],
  NEXUS_RATE_LIMIT_TELEMETRY: [RATES, 'is the same on lean routes'],
  NEXUS_RATE_LIMIT_TELEMETRY_BATCH: [RATES, 'limits batches of telemetry apart from single events'],
  NEXUS_RATE_LIMIT_WEBHOOKS: [RATES, CATEGORIES],
  NEXUS_REQUEST_TIMEOUT: [
    'test/http/timeouts.e2e-spec.ts',
    'is answered 504, and nothing of it is committed afterwards',
  ],
  NEXUS_RESPONSE_COMPRESSION: [SETTINGS, 'compresses no answer when that is off'],
  NEXUS_ROLE: ['test/platform/jobs.e2e-spec.ts', 'runs none in the role api, and counts what waits'],
  NEXUS_STREAM_CONNECTIONS: [SETTINGS, 'holds so many streams of one key open, and no more'],
  NEXUS_STREAM_TOKEN_IN_URL: [
    'test/streaming/websocket.e2e-spec.ts',
    'takes a token in the URL only where a setting says so',
  ],
  NEXUS_TASK_RETENTION_DAYS: [
    'test/platform/background-tasks.e2e-spec.ts',
    'is found by kind and in lists, counted, and deleted when it is old',
  ],
  NEXUS_TELEMETRY_MAX_FUTURE_SECONDS: [SETTINGS, 'takes a timestamp that is a little ahead, and no later one'],
  NEXUS_TELEMETRY_MAX_SERIES: [SETTINGS, 'stores events past the most series, and makes no series of them'],
  NEXUS_TELEMETRY_MAX_SERIES_PER_SOURCE: [SETTINGS, 'stores events past the most series, and makes no series of them'],
  NEXUS_TELEMETRY_RETENTION_DAYS: [
    'test/telemetry/old-events.e2e-spec.ts',
    'is kept for the retention counted from its receipt, and its series as long',
  ],
  NEXUS_TELEMETRY_ROLLUP_1D_DAYS: [SETTINGS, ROLLUPS],
  NEXUS_TELEMETRY_ROLLUP_1H_DAYS: [SETTINGS, ROLLUPS],
  NEXUS_TELEMETRY_ROLLUP_1M_DAYS: [SETTINGS, ROLLUPS],
  NEXUS_TELEMETRY_ROLLUP_5M_DAYS: [SETTINGS, ROLLUPS],
  NEXUS_TRUSTED_PROXIES: [
    'test/agents/join.e2e-spec.ts',
    'asks for the proxy in front of the server, and for http:// only where it must',
  ],
  NEXUS_WEBHOOK_CONCURRENCY: [SETTINGS, 'sends a webhook that answers well so many requests at once, and no more'],
  NEXUS_WEBHOOK_DISABLE_AFTER: [SETTINGS, 'disables a webhook that has failed for so many seconds'],
  NEXUS_WEBHOOK_DISABLE_AFTER_FAILURES: [
    'test/webhooks/faults.e2e-spec.ts',
    'when it has failed too often in a row, with what waited given up and recoverable',
  ],
  NEXUS_WEBHOOK_MAX: [SETTINGS, 'has so many webhooks, those of event subscriptions included, and no more'],
  NEXUS_WEBHOOK_RETENTION_DAYS: [
    'test/webhooks/webhooks.e2e-spec.ts',
    'deletes deliveries that ended longer ago than NEXUS_WEBHOOK_RETENTION_DAYS, and no other',
  ],
  PORT: [START, 'for a port that is taken, and is not made the less a first start by it'],
  REDIS_URL: ['test/scale/redis.e2e-spec.ts', 'counts the rate limit of a principal across both'],
};
