import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The whole schema as the first release has it. */
export class Baseline1764100000000 implements MigrationInterface {
  readonly name = 'Baseline1764100000000';

  async up(db: QueryRunner): Promise<void> {
    for (const statement of [...TABLES, ...AUDIT_IS_APPEND_ONLY, HISTOGRAM_BIN, EVENT_SEQUENCE, ...ROWS]) {
      await db.query(statement);
    }
    // TypeORM compares the expressions of generated columns with what it has noted of them.
    await db.query(
      `INSERT INTO typeorm_metadata (database, schema, "table", type, name, value)
       VALUES (current_database(), current_schema(), 'agents', 'GENERATED_COLUMN', 'all_labels', 'reported_labels || labels')`,
    );
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DELETE FROM typeorm_metadata WHERE "table" = 'agents' AND name = 'all_labels'`);
    await db.query(`DROP TABLE ${CREATED.toReversed().join(', ')}`);
    await db.query('DROP SEQUENCE events_seq');
    await db.query('DROP FUNCTION telemetry_bin, audit_entries_append_only');
  }
}

const TABLES = [
  // Agents
  `CREATE TABLE agents (
    id uuid NOT NULL,
    name text NOT NULL,
    agent_type text NOT NULL,
    capabilities text[] NOT NULL DEFAULT '{}',
    version text NOT NULL,
    endpoint text,
    authentication jsonb,
    labels jsonb NOT NULL DEFAULT '{}',
    reported_labels jsonb NOT NULL DEFAULT '{}',
    all_labels jsonb GENERATED ALWAYS AS (reported_labels || labels) STORED,
    status text NOT NULL,
    held boolean NOT NULL DEFAULT false,
    load_percent real,
    last_seen_at timestamptz,
    connected_at timestamptz,
    link_node uuid,
    link_id uuid,
    hostname text,
    platform text,
    command_types jsonb NOT NULL DEFAULT '[]',
    registered_at timestamptz(3) NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    row_version integer NOT NULL DEFAULT 1,
    CONSTRAINT agents_pkey PRIMARY KEY (id),
    CONSTRAINT agents_status_check CHECK (status IN ('active', 'degraded', 'inactive', 'offline', 'maintenance', 'deregistered'))
  )`,
  'CREATE INDEX agents_labels ON agents USING gin (all_labels jsonb_path_ops)',
  `CREATE UNIQUE INDEX agents_name ON agents (lower(name)) WHERE status <> 'deregistered'`,
  'CREATE INDEX agents_registered_at ON agents (registered_at, id)',
  `CREATE TABLE agent_join_tokens (
    id uuid NOT NULL,
    hash bytea NOT NULL,
    preview text NOT NULL,
    labels jsonb NOT NULL DEFAULT '{}',
    created_by text NOT NULL,
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    used_by_agent uuid,
    revoked_at timestamptz,
    nonce_hash bytea,
    owner_credential text,
    CONSTRAINT agent_join_tokens_pkey PRIMARY KEY (id),
    CONSTRAINT agent_join_tokens_hash_key UNIQUE (hash)
  )`,
  'CREATE INDEX agent_join_tokens_created_at ON agent_join_tokens (created_at)',
  `CREATE TABLE agent_signing_keys (
    agent_id uuid NOT NULL,
    public_key text NOT NULL,
    private_key text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT agent_signing_keys_pkey PRIMARY KEY (agent_id),
    CONSTRAINT agent_signing_keys_agent_id_fkey FOREIGN KEY (agent_id) REFERENCES agents(id) ON DELETE CASCADE
  )`,
  // Alerts
  `CREATE TABLE alert_rules (
    id uuid NOT NULL,
    name text NOT NULL,
    description text NOT NULL,
    enabled boolean NOT NULL,
    severity text NOT NULL,
    definition jsonb NOT NULL,
    target_labels jsonb,
    version integer NOT NULL DEFAULT 1,
    created_by text NOT NULL,
    updated_by text NOT NULL,
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    updated_at timestamptz(3) NOT NULL DEFAULT now(),
    owner_id text NOT NULL,
    owner_credential text,
    suspended_actions text[] NOT NULL DEFAULT '{}',
    CONSTRAINT alert_rules_pkey PRIMARY KEY (id)
  )`,
  'CREATE INDEX alert_rules_newest ON alert_rules (created_at, id)',
  `CREATE TABLE alerts (
    id uuid NOT NULL,
    rule_id uuid NOT NULL,
    group_id uuid NOT NULL,
    rule_name text NOT NULL,
    severity text NOT NULL,
    condition text NOT NULL,
    "grouping" jsonb NOT NULL,
    source text COLLATE "C",
    metric_name text,
    unit text,
    tags jsonb NOT NULL,
    event_id uuid,
    value double precision,
    status text NOT NULL DEFAULT 'active',
    started_at timestamptz(3) NOT NULL,
    last_value double precision,
    last_at timestamptz(3),
    count bigint NOT NULL DEFAULT 1,
    cleared_at timestamptz(3),
    cleared_by text,
    clear_reason text,
    acknowledged_at timestamptz(3),
    acknowledged_by text,
    notes jsonb NOT NULL DEFAULT '[]',
    silenced boolean NOT NULL DEFAULT false,
    notified_at timestamptz(3),
    actions jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT alerts_pkey PRIMARY KEY (id),
    CONSTRAINT alerts_check CHECK ((status = 'cleared') = (cleared_at IS NOT NULL)),
    CONSTRAINT alerts_status_check CHECK (status IN ('active', 'cleared'))
  )`,
  `CREATE INDEX alerts_cleared ON alerts (cleared_at) WHERE status = 'cleared'`,
  'CREATE INDEX alerts_newest ON alerts (started_at, id)',
  `CREATE UNIQUE INDEX alerts_open ON alerts (rule_id, group_id) WHERE status = 'active'`,
  'CREATE INDEX alerts_rule ON alerts (rule_id, started_at)',
  `CREATE INDEX alerts_silenced ON alerts (id) WHERE (status = 'active') AND (notified_at IS NULL)`,
  'CREATE INDEX alerts_source ON alerts (source, started_at)',
  `CREATE TABLE alert_states (
    rule_id uuid NOT NULL,
    group_id uuid NOT NULL,
    group_key text NOT NULL,
    "grouping" jsonb NOT NULL,
    phase text NOT NULL DEFAULT 'ok',
    matches integer NOT NULL DEFAULT 0,
    since timestamptz(3),
    last_ts timestamptz(3) NOT NULL DEFAULT '1970-01-01 00:00:00+00',
    raised_at timestamptz(3),
    due_at timestamptz(3),
    alert_id uuid,
    sample jsonb,
    recheck_at timestamptz(3),
    updated_at timestamptz(3) NOT NULL DEFAULT now(),
    last_received_at timestamptz(3),
    last_event_id uuid,
    CONSTRAINT alert_states_pkey PRIMARY KEY (rule_id, group_id),
    CONSTRAINT alert_states_rule_id_fkey FOREIGN KEY (rule_id) REFERENCES alert_rules(id) ON DELETE CASCADE,
    CONSTRAINT alert_states_check CHECK ((phase IN ('firing', 'clearing')) = (alert_id IS NOT NULL)),
    CONSTRAINT alert_states_phase_check CHECK (phase IN ('ok', 'pending', 'firing', 'clearing'))
  )`,
  'CREATE INDEX alert_states_due ON alert_states (due_at) WHERE due_at IS NOT NULL',
  'CREATE INDEX alert_states_recheck ON alert_states (recheck_at) WHERE recheck_at IS NOT NULL',
  'CREATE INDEX alert_states_updated ON alert_states (updated_at)',
  `CREATE TABLE alert_silences (
    id uuid NOT NULL,
    comment text NOT NULL,
    matchers jsonb NOT NULL,
    starts_at timestamptz(3) NOT NULL,
    ends_at timestamptz(3) NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT alert_silences_pkey PRIMARY KEY (id),
    CONSTRAINT alert_silences_check CHECK (ends_at > starts_at)
  )`,
  'CREATE INDEX alert_silences_ends ON alert_silences (ends_at)',
  `CREATE TABLE alert_evaluators (
    id uuid NOT NULL,
    beat_at timestamptz(3) NOT NULL,
    done_before timestamptz(3) NOT NULL,
    CONSTRAINT alert_evaluators_pkey PRIMARY KEY (id)
  )`,
  // Commands
  `CREATE TABLE commands (
    id uuid NOT NULL,
    parent_id uuid,
    retry_of uuid,
    command_type text NOT NULL,
    target text NOT NULL,
    agent_id uuid,
    executor text NOT NULL,
    parameters jsonb NOT NULL,
    priority smallint NOT NULL,
    timeout_seconds integer NOT NULL,
    status text NOT NULL,
    created_by text NOT NULL,
    credential text,
    request_id text,
    idempotency_key text,
    idempotency_hash text,
    created_at timestamptz NOT NULL,
    delivered_at timestamptz,
    started_at timestamptz,
    completed_at timestamptz,
    deadline_at timestamptz,
    due_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    result jsonb,
    held_result jsonb,
    output_bytes bigint NOT NULL DEFAULT 0,
    output_truncated boolean NOT NULL DEFAULT false,
    timeline jsonb NOT NULL,
    callback_url text,
    callback_body text,
    callback_attempts integer NOT NULL DEFAULT 0,
    callback_due_at timestamptz,
    version integer NOT NULL DEFAULT 1,
    target_name text,
    CONSTRAINT commands_pkey PRIMARY KEY (id),
    CONSTRAINT commands_created_by_idempotency_key_key UNIQUE (created_by, idempotency_key),
    CONSTRAINT commands_parent_id_fkey FOREIGN KEY (parent_id) REFERENCES commands(id) ON DELETE CASCADE,
    CONSTRAINT commands_executor_check CHECK (executor IN ('link', 'http', 'builtin', 'fanout')),
    CONSTRAINT commands_status_check CHECK (status IN ('queued', 'delivered', 'running', 'completed', 'failed', 'cancelled', 'timed_out'))
  ) WITH (fillfactor = 70)`,
  'CREATE INDEX commands_callback_due ON commands (callback_due_at) WHERE callback_due_at IS NOT NULL',
  `CREATE INDEX commands_deadline ON commands (deadline_at) WHERE status IN ('queued', 'delivered', 'running')`,
  'CREATE INDEX commands_due ON commands (due_at) WHERE due_at IS NOT NULL',
  'CREATE INDEX commands_finished ON commands (completed_at) WHERE completed_at IS NOT NULL',
  'CREATE INDEX commands_newest ON commands (created_at, id)',
  'CREATE INDEX commands_of_agent ON commands (agent_id, created_at)',
  'CREATE INDEX commands_of_parent ON commands (parent_id) WHERE parent_id IS NOT NULL',
  `CREATE INDEX commands_open ON commands (agent_id, status) WHERE status IN ('queued', 'delivered', 'running')`,
  `CREATE TABLE command_output (
    command_id uuid NOT NULL,
    "offset" bigint NOT NULL,
    stream text NOT NULL,
    data bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT command_output_pkey PRIMARY KEY (command_id, "offset"),
    CONSTRAINT command_output_command_id_fkey FOREIGN KEY (command_id) REFERENCES commands(id) ON DELETE CASCADE,
    CONSTRAINT command_output_stream_check CHECK (stream IN ('stdout', 'stderr'))
  )`,
  `CREATE TABLE command_types (
    type text NOT NULL,
    description text NOT NULL,
    parameters jsonb NOT NULL,
    executor text NOT NULL,
    default_timeout_seconds integer NOT NULL,
    risk text NOT NULL,
    idempotent boolean NOT NULL,
    enabled boolean NOT NULL,
    built_in boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    version integer NOT NULL DEFAULT 1,
    CONSTRAINT command_types_pkey PRIMARY KEY (type),
    CONSTRAINT command_types_executor_check CHECK (executor IN ('agent', 'server', 'any')),
    CONSTRAINT command_types_risk_check CHECK (risk IN ('low', 'medium', 'high'))
  )`,
  // Events
  `CREATE TABLE event_subscriptions (
    id uuid NOT NULL,
    owner_id text NOT NULL,
    name text NOT NULL,
    event_patterns text[] NOT NULL,
    filters jsonb,
    reader_scopes text[] NOT NULL,
    delivery_method text NOT NULL,
    enabled boolean NOT NULL,
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    updated_at timestamptz(3) NOT NULL DEFAULT now(),
    owner_credential text,
    disabled_at timestamptz(3),
    CONSTRAINT event_subscriptions_pkey PRIMARY KEY (id),
    CONSTRAINT event_subscriptions_check CHECK (NOT (enabled AND (disabled_at IS NOT NULL))),
    CONSTRAINT event_subscriptions_delivery_method_check CHECK (delivery_method IN ('webhook', 'stream')),
    CONSTRAINT event_subscriptions_event_patterns_check CHECK (cardinality(event_patterns) > 0)
  )`,
  'CREATE INDEX event_subscriptions_owner ON event_subscriptions (owner_id, created_at, id)',
  `CREATE INDEX event_subscriptions_streams ON event_subscriptions USING gin (event_patterns) WHERE enabled AND (delivery_method = 'stream')`,
  // Events
  `CREATE TABLE events (
    id uuid NOT NULL,
    "position" bigint GENERATED ALWAYS AS IDENTITY,
    seq bigint,
    type text NOT NULL,
    subject text,
    data jsonb NOT NULL,
    actor_id text NOT NULL,
    request_id text,
    occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    relayed_at timestamptz,
    source text,
    metadata jsonb,
    priority text NOT NULL DEFAULT 'normal',
    correlation_id text,
    expires_at timestamptz(3),
    CONSTRAINT events_pkey PRIMARY KEY (id),
    CONSTRAINT events_seq_key UNIQUE (seq),
    CONSTRAINT events_priority_check CHECK (priority IN ('low', 'normal', 'high', 'critical'))
  )`,
  'CREATE INDEX events_correlation ON events (correlation_id, occurred_at) WHERE correlation_id IS NOT NULL',
  'CREATE INDEX events_expires_at ON events (expires_at) WHERE expires_at IS NOT NULL',
  'CREATE INDEX events_occurred_at ON events (occurred_at, id)',
  `CREATE INDEX events_priority ON events (priority, occurred_at) WHERE priority <> 'normal'`,
  'CREATE INDEX events_source ON events (source, occurred_at) WHERE source IS NOT NULL',
  'CREATE INDEX events_type ON events (type text_pattern_ops, occurred_at)',
  'CREATE INDEX events_type_end ON events (reverse(type) text_pattern_ops, occurred_at)',
  'CREATE INDEX events_unrelayed ON events ("position") WHERE relayed_at IS NULL',
  `CREATE TABLE event_checkpoints (
    handler text NOT NULL,
    seq bigint NOT NULL,
    CONSTRAINT event_checkpoints_pkey PRIMARY KEY (handler)
  )`,
  `CREATE TABLE event_dead_letters (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    handler text NOT NULL,
    event_id uuid NOT NULL,
    event_type text NOT NULL,
    event jsonb NOT NULL,
    status text NOT NULL DEFAULT 'failed',
    error text NOT NULL,
    attempts integer NOT NULL,
    retries integer NOT NULL DEFAULT 0,
    first_failed_at timestamptz(3) NOT NULL DEFAULT now(),
    failed_at timestamptz(3) NOT NULL DEFAULT now(),
    dispatched_at timestamptz(3),
    CONSTRAINT event_dead_letters_pkey PRIMARY KEY (id),
    CONSTRAINT event_dead_letters_handler_event_id_key UNIQUE (handler, event_id),
    CONSTRAINT event_dead_letters_status_check CHECK (status IN ('failed', 'retrying'))
  )`,
  'CREATE INDEX event_dead_letters_newest ON event_dead_letters (failed_at, id)',
  `CREATE INDEX event_dead_letters_retrying ON event_dead_letters (dispatched_at) WHERE status = 'retrying'`,
  `CREATE TABLE event_store_marker (
    one boolean NOT NULL DEFAULT true,
    value bigint NOT NULL DEFAULT 0,
    CONSTRAINT event_store_marker_pkey PRIMARY KEY (one),
    CONSTRAINT event_store_marker_one_check CHECK (one)
  )`,
  `CREATE TABLE events_removed (
    one boolean NOT NULL DEFAULT true,
    up_to bigint NOT NULL DEFAULT 0,
    CONSTRAINT events_removed_pkey PRIMARY KEY (one),
    CONSTRAINT events_removed_one_check CHECK (one)
  )`,
  // Background tasks
  `CREATE TABLE background_tasks (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    kind text NOT NULL,
    status text NOT NULL DEFAULT 'queued',
    progress double precision NOT NULL DEFAULT 0,
    steps jsonb NOT NULL,
    current_step text,
    input jsonb NOT NULL,
    details jsonb NOT NULL DEFAULT '{}',
    checkpoint jsonb,
    result jsonb,
    error jsonb,
    created_by text NOT NULL,
    request_id text,
    attempt integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    run_at timestamptz(3) NOT NULL DEFAULT now(),
    heartbeat_at timestamptz(3),
    dispatched_at timestamptz(3),
    dispatches integer NOT NULL DEFAULT 0,
    cancelled_by text,
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    started_at timestamptz(3),
    updated_at timestamptz(3) NOT NULL DEFAULT now(),
    finished_at timestamptz(3),
    CONSTRAINT background_tasks_pkey PRIMARY KEY (id),
    CONSTRAINT background_tasks_check CHECK ((status = 'running') = (heartbeat_at IS NOT NULL)),
    CONSTRAINT background_tasks_check1 CHECK ((status IN ('queued', 'running')) = (finished_at IS NULL)),
    CONSTRAINT background_tasks_check2 CHECK ((status = 'cancelled') = (cancelled_by IS NOT NULL)),
    CONSTRAINT background_tasks_progress_check CHECK ((progress >= 0) AND (progress <= 100)),
    CONSTRAINT background_tasks_status_check CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled'))
  )`,
  'CREATE INDEX background_tasks_finished ON background_tasks (finished_at) WHERE finished_at IS NOT NULL',
  'CREATE INDEX background_tasks_newest ON background_tasks (created_at, id)',
  `CREATE INDEX background_tasks_open ON background_tasks (kind, created_at) WHERE status IN ('queued', 'running')`,
  `CREATE TABLE background_task_logs (
    task_id uuid NOT NULL,
    n bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz(3) NOT NULL,
    level text NOT NULL,
    message text NOT NULL,
    CONSTRAINT background_task_logs_pkey PRIMARY KEY (task_id, n),
    CONSTRAINT background_task_logs_task_id_fkey FOREIGN KEY (task_id) REFERENCES background_tasks(id) ON DELETE CASCADE,
    CONSTRAINT background_task_logs_level_check CHECK (level IN ('info', 'warn', 'error'))
  )`,
  // Requests
  `CREATE TABLE idempotency_keys (
    principal text NOT NULL,
    route text NOT NULL,
    key text NOT NULL,
    request_hash bytea NOT NULL,
    status smallint,
    headers jsonb,
    body text,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (principal, route, key)
  )`,
  'CREATE INDEX idempotency_keys_expires ON idempotency_keys (expires_at)',
  `CREATE TABLE deletions (
    id text NOT NULL,
    owner text,
    deleted_at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT deletions_pkey PRIMARY KEY (id)
  )`,
  'CREATE INDEX deletions_deleted_at ON deletions (deleted_at)',
  // Schedules
  `CREATE TABLE schedule_runs (
    job text NOT NULL,
    last_run_at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT schedule_runs_pkey PRIMARY KEY (job)
  )`,
  `CREATE TABLE schedule_claims (
    job text NOT NULL,
    next_run_at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT schedule_claims_pkey PRIMARY KEY (job)
  ) WITH (fillfactor = 50)`,
  // Inbound hooks
  `CREATE TABLE hooks (
    id uuid NOT NULL,
    name text NOT NULL,
    scheme text NOT NULL,
    event_type text NOT NULL,
    enabled boolean NOT NULL,
    description text NOT NULL,
    secret_box text NOT NULL,
    previous_secret_box text,
    previous_secret_until timestamptz(3),
    created_by text NOT NULL,
    received_count bigint NOT NULL DEFAULT 0,
    rejected_count bigint NOT NULL DEFAULT 0,
    last_received_at timestamptz(3),
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    updated_at timestamptz(3) NOT NULL DEFAULT now(),
    owner_id text NOT NULL,
    owner_credential text,
    CONSTRAINT hooks_pkey PRIMARY KEY (id),
    CONSTRAINT hooks_name_key UNIQUE (name),
    CONSTRAINT hooks_scheme_check CHECK (scheme IN ('standard', 'nexus', 'github'))
  )`,
  `CREATE TABLE hook_receipts (
    hook_id uuid NOT NULL,
    message_id text NOT NULL,
    event_id uuid,
    event_type text,
    received_at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT hook_receipts_pkey PRIMARY KEY (hook_id, message_id),
    CONSTRAINT hook_receipts_hook_id_fkey FOREIGN KEY (hook_id) REFERENCES hooks(id) ON DELETE CASCADE
  )`,
  'CREATE INDEX hook_receipts_received ON hook_receipts (received_at)',
  // Security
  'CREATE SEQUENCE audit_entries_id_seq',
  `CREATE TABLE audit_entries (
    id bigint NOT NULL DEFAULT nextval('audit_entries_id_seq'),
    at timestamptz NOT NULL,
    actor_id text NOT NULL,
    credential_id text,
    action text NOT NULL,
    resource_id text,
    status_code smallint NOT NULL,
    count integer NOT NULL DEFAULT 1,
    ip_address text,
    user_agent text,
    claimed_user_id text,
    request_id text
  ) PARTITION BY RANGE (at)`,
  'ALTER SEQUENCE audit_entries_id_seq OWNED BY audit_entries.id',
  'CREATE INDEX audit_entries_actor ON audit_entries (actor_id, at, id)',
  'CREATE INDEX audit_entries_at ON audit_entries (at, id)',
  'CREATE INDEX audit_entries_failures ON audit_entries (status_code, at, id) WHERE status_code >= 400',
  'CREATE INDEX audit_entries_resource ON audit_entries (resource_id, at) WHERE resource_id IS NOT NULL',
  `CREATE TABLE audit_minutes (
    minute timestamptz NOT NULL,
    actor_id text NOT NULL,
    credential_id text NOT NULL DEFAULT '',
    action text NOT NULL,
    status_code smallint NOT NULL,
    count integer NOT NULL,
    ip_address text,
    user_agent text,
    network text NOT NULL DEFAULT '',
    CONSTRAINT audit_minutes_pkey PRIMARY KEY (minute, actor_id, credential_id, action, status_code, network)
  )`,
  `CREATE TABLE users (
    id uuid NOT NULL,
    username text NOT NULL,
    email text,
    full_name text,
    password_hash text,
    status text NOT NULL DEFAULT 'active',
    roles text[] NOT NULL DEFAULT '{}',
    preferences jsonb NOT NULL DEFAULT '{}',
    metadata jsonb NOT NULL DEFAULT '{}',
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    last_login_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_status_check CHECK (status IN ('active', 'suspended', 'deleted'))
  )`,
  'CREATE UNIQUE INDEX users_email ON users (lower(email)) WHERE email IS NOT NULL',
  'CREATE UNIQUE INDEX users_username ON users (lower(username))',
  `CREATE TABLE roles (
    id uuid NOT NULL,
    name text NOT NULL,
    description text,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    deleted_at timestamptz,
    CONSTRAINT roles_pkey PRIMARY KEY (id),
    CONSTRAINT roles_name_key UNIQUE (name)
  )`,
  `CREATE TABLE sessions (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    ip text,
    user_agent text,
    remember boolean NOT NULL,
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    CONSTRAINT sessions_pkey PRIMARY KEY (id),
    CONSTRAINT sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
  )`,
  'CREATE INDEX sessions_expires ON sessions (expires_at)',
  'CREATE INDEX sessions_user ON sessions (user_id, created_at)',
  `CREATE TABLE refresh_tokens (
    hash bytea NOT NULL,
    session_id uuid NOT NULL,
    issued_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    CONSTRAINT refresh_tokens_pkey PRIMARY KEY (hash),
    CONSTRAINT refresh_tokens_session_id_fkey FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE
  )`,
  'CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id)',
  `CREATE TABLE login_attempts (
    account bytea NOT NULL,
    network text NOT NULL,
    failures integer NOT NULL,
    last_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT login_attempts_pkey PRIMARY KEY (account, network)
  )`,
  'CREATE INDEX login_attempts_last ON login_attempts (last_at)',
  `CREATE TABLE login_networks (
    user_id uuid NOT NULL,
    network text NOT NULL,
    last_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT login_networks_pkey PRIMARY KEY (user_id, network),
    CONSTRAINT login_networks_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
  )`,
  'CREATE INDEX login_networks_last ON login_networks (last_at)',
  `CREATE TABLE credentials (
    id uuid NOT NULL,
    kind text NOT NULL,
    key_id text NOT NULL,
    hash bytea NOT NULL,
    preview text NOT NULL,
    name text NOT NULL,
    description text,
    owner_user_id uuid,
    agent_id uuid,
    scopes text[] NOT NULL,
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz,
    parent_id uuid,
    CONSTRAINT credentials_pkey PRIMARY KEY (id),
    CONSTRAINT credentials_key_id_key UNIQUE (key_id),
    CONSTRAINT credentials_owner_user_id_fkey FOREIGN KEY (owner_user_id) REFERENCES users(id) ON DELETE CASCADE,
    CONSTRAINT credentials_parent_id_fkey FOREIGN KEY (parent_id) REFERENCES credentials(id) ON DELETE SET NULL,
    CONSTRAINT credentials_check CHECK ((agent_id IS NULL) <> (owner_user_id IS NULL)),
    CONSTRAINT credentials_check1 CHECK ((kind = 'agent') = (agent_id IS NOT NULL)),
    CONSTRAINT credentials_kind_check CHECK (kind IN ('api', 'tok', 'agent'))
  )`,
  'CREATE INDEX credentials_agent ON credentials (agent_id) WHERE agent_id IS NOT NULL',
  'CREATE INDEX credentials_owner ON credentials (owner_user_id, created_at)',
  'CREATE INDEX credentials_parent ON credentials (parent_id) WHERE parent_id IS NOT NULL',
  `CREATE TABLE master_key_probe (
    sealed text,
    key_id text NOT NULL,
    encrypting_at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT master_key_probe_pkey PRIMARY KEY (key_id)
  )`,
  `CREATE TABLE security_alerts (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    type text NOT NULL,
    subject text NOT NULL,
    severity text NOT NULL,
    message text NOT NULL,
    details jsonb NOT NULL,
    occurrences integer NOT NULL,
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    last_seen_at timestamptz(3) NOT NULL DEFAULT now(),
    acknowledged_at timestamptz(3),
    acknowledged_by text,
    CONSTRAINT security_alerts_pkey PRIMARY KEY (id),
    CONSTRAINT security_alerts_type_subject_created_at_key UNIQUE (type, subject, created_at),
    CONSTRAINT security_alerts_check CHECK ((acknowledged_at IS NULL) = (acknowledged_by IS NULL)),
    CONSTRAINT security_alerts_severity_check CHECK (severity IN ('low', 'medium', 'high', 'critical'))
  )`,
  'CREATE INDEX security_alerts_newest ON security_alerts (created_at, id)',
  `CREATE TABLE security_signals (
    kind text NOT NULL,
    subject text NOT NULL,
    minute timestamptz NOT NULL,
    count integer NOT NULL,
    CONSTRAINT security_signals_pkey PRIMARY KEY (kind, subject, minute)
  )`,
  'CREATE INDEX security_signals_minute ON security_signals (minute)',
  // Streams
  `CREATE TABLE stream_tickets (
    hash bytea NOT NULL,
    credential text NOT NULL,
    channels text[],
    expires_at timestamptz NOT NULL,
    CONSTRAINT stream_tickets_pkey PRIMARY KEY (hash)
  )`,
  'CREATE INDEX stream_tickets_expires_at ON stream_tickets (expires_at)',
  // System
  `CREATE TABLE write_probe (
    one boolean NOT NULL DEFAULT true,
    written_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT write_probe_pkey PRIMARY KEY (one),
    CONSTRAINT write_probe_one_check CHECK (one)
  )`,
  `CREATE TABLE metrics_reporter (
    one boolean NOT NULL DEFAULT true,
    process_id uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT metrics_reporter_pkey PRIMARY KEY (one),
    CONSTRAINT metrics_reporter_one_check CHECK (one)
  )`,
  // Telemetry
  `CREATE TABLE telemetry_events (
    event_id uuid NOT NULL,
    ts timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    series_id bigint,
    value double precision,
    event_type text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    data jsonb NOT NULL,
    metadata jsonb,
    CONSTRAINT telemetry_events_pkey PRIMARY KEY (event_id, ts)
  ) PARTITION BY RANGE (ts)`,
  'CREATE INDEX telemetry_events_received ON telemetry_events USING brin (received_at) WITH (pages_per_range = 64, autosummarize = on)',
  'CREATE INDEX telemetry_events_source ON telemetry_events (source, ts)',
  'CREATE INDEX telemetry_events_ts ON telemetry_events (ts)',
  'CREATE INDEX telemetry_events_type ON telemetry_events (event_type, ts)',
  `CREATE TABLE telemetry_batches (
    id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    actor_id text NOT NULL,
    accepted_count integer NOT NULL,
    duplicate_count integer NOT NULL,
    rejected_count integer NOT NULL,
    errors jsonb NOT NULL,
    CONSTRAINT telemetry_batches_pkey PRIMARY KEY (id)
  )`,
  'CREATE INDEX telemetry_batches_created_at ON telemetry_batches (created_at)',
  `CREATE TABLE telemetry_series (
    id bigint GENERATED ALWAYS AS IDENTITY,
    key uuid NOT NULL,
    source text COLLATE "C" NOT NULL,
    metric_name text COLLATE "C" NOT NULL,
    tags jsonb NOT NULL,
    unit text,
    event_type text NOT NULL,
    first_seen timestamptz NOT NULL,
    last_seen timestamptz NOT NULL,
    last_received timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT telemetry_series_pkey PRIMARY KEY (id),
    CONSTRAINT telemetry_series_key_key UNIQUE (key)
  ) WITH (fillfactor = 80)`,
  'CREATE INDEX telemetry_series_metric ON telemetry_series (metric_name, source)',
  'CREATE INDEX telemetry_series_source ON telemetry_series (source)',
  `CREATE TABLE telemetry_rollups (
    resolution integer NOT NULL,
    series_id bigint NOT NULL,
    bucket timestamptz NOT NULL,
    count bigint NOT NULL,
    sum double precision NOT NULL,
    min double precision NOT NULL,
    max double precision NOT NULL,
    last_at timestamptz NOT NULL,
    last double precision NOT NULL,
    bins integer[] NOT NULL,
    bin_counts bigint[] NOT NULL,
    CONSTRAINT telemetry_rollups_pkey PRIMARY KEY (resolution, series_id, bucket)
  )`,
  'CREATE INDEX telemetry_rollups_bucket ON telemetry_rollups (resolution, bucket)',
  `CREATE TABLE telemetry_dirty (
    resolution integer NOT NULL,
    bucket timestamptz NOT NULL
  ) WITH (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0)`,
  // Webhooks
  `CREATE TABLE webhooks (
    id uuid NOT NULL,
    url text NOT NULL,
    events text[] NOT NULL,
    secret_box text NOT NULL,
    previous_secret_box text,
    previous_secret_until timestamptz(3),
    active boolean NOT NULL,
    disabled_at timestamptz(3),
    disabled_reason text,
    retry_config jsonb NOT NULL,
    description text NOT NULL,
    created_by text NOT NULL,
    failing_since timestamptz(3),
    consecutive_failures integer NOT NULL DEFAULT 0,
    last_success_at timestamptz(3),
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    updated_at timestamptz(3) NOT NULL DEFAULT now(),
    managed_by uuid,
    reader_scopes text[] NOT NULL,
    filters jsonb,
    batch_size integer,
    batch_wait_ms integer,
    holder_id text NOT NULL,
    holder_credential text,
    CONSTRAINT webhooks_pkey PRIMARY KEY (id),
    CONSTRAINT webhooks_managed_by_key UNIQUE (managed_by),
    CONSTRAINT webhooks_batch_size_check CHECK (batch_size > 0),
    CONSTRAINT webhooks_batch_wait_ms_check CHECK (batch_wait_ms > 0),
    CONSTRAINT webhooks_check CHECK (NOT (active AND (disabled_at IS NOT NULL))),
    CONSTRAINT webhooks_check1 CHECK ((batch_size IS NULL) = (batch_wait_ms IS NULL)),
    CONSTRAINT webhooks_events_check CHECK (cardinality(events) > 0)
  )`,
  'CREATE INDEX webhooks_holder ON webhooks (holder_id)',
  `CREATE TABLE webhook_deliveries (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    webhook_id uuid NOT NULL,
    event_id uuid NOT NULL,
    event_type text NOT NULL,
    body bytea NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    attempts integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz(3) DEFAULT now(),
    sending_since timestamptz(3),
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    finished_at timestamptz(3),
    expires_at timestamptz(3),
    replay_id uuid,
    CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (id),
    CONSTRAINT webhook_deliveries_event_id_webhook_id_key UNIQUE (event_id, webhook_id),
    CONSTRAINT webhook_deliveries_webhook_id_fkey FOREIGN KEY (webhook_id) REFERENCES webhooks(id) ON DELETE CASCADE,
    CONSTRAINT webhook_deliveries_check CHECK ((status = 'pending') = (next_attempt_at IS NOT NULL)),
    CONSTRAINT webhook_deliveries_check1 CHECK ((status = 'pending') = (finished_at IS NULL)),
    CONSTRAINT webhook_deliveries_status_check CHECK (status IN ('pending', 'delivered', 'failed', 'cancelled'))
  )`,
  `CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, next_attempt_at) WHERE status = 'pending'`,
  `CREATE INDEX webhook_deliveries_finished ON webhook_deliveries (finished_at) WHERE finished_at IS NOT NULL`,
  'CREATE INDEX webhook_deliveries_newest ON webhook_deliveries (webhook_id, created_at, id)',
  'CREATE INDEX webhook_deliveries_replay ON webhook_deliveries (replay_id, status) WHERE replay_id IS NOT NULL',
  `CREATE TABLE webhook_attempts (
    delivery_id uuid NOT NULL,
    n integer NOT NULL,
    at timestamptz(3) NOT NULL,
    status_code integer,
    latency_ms integer,
    error_code text,
    error text,
    response_snippet text,
    delivery_info json,
    CONSTRAINT webhook_attempts_pkey PRIMARY KEY (delivery_id, n),
    CONSTRAINT webhook_attempts_delivery_id_fkey FOREIGN KEY (delivery_id) REFERENCES webhook_deliveries(id) ON DELETE CASCADE
  )`,
  `CREATE TABLE webhook_batch_items (
    webhook_id uuid NOT NULL,
    event_id uuid NOT NULL,
    seq bigint NOT NULL,
    body bytea,
    expires_at timestamptz(3),
    added_at timestamptz(3) NOT NULL DEFAULT now(),
    delivery_id uuid,
    CONSTRAINT webhook_batch_items_pkey PRIMARY KEY (webhook_id, event_id),
    CONSTRAINT webhook_batch_items_delivery_id_fkey FOREIGN KEY (delivery_id) REFERENCES webhook_deliveries(id) ON DELETE CASCADE,
    CONSTRAINT webhook_batch_items_webhook_id_fkey FOREIGN KEY (webhook_id) REFERENCES webhooks(id) ON DELETE CASCADE,
    CONSTRAINT webhook_batch_items_check CHECK ((delivery_id IS NULL) = (body IS NOT NULL))
  )`,
  'CREATE INDEX webhook_batch_items_delivery ON webhook_batch_items (delivery_id)',
  'CREATE INDEX webhook_batch_items_event ON webhook_batch_items (event_id)',
  'CREATE INDEX webhook_batch_items_waiting ON webhook_batch_items (webhook_id, seq) WHERE delivery_id IS NULL',
  // Takes the data points of days that have no partition; it is emptied by the time of receipt.
  'CREATE TABLE telemetry_events_old PARTITION OF telemetry_events DEFAULT',
];

const CREATED = TABLES.flatMap((statement) => /^CREATE TABLE (\w+) \(/.exec(statement)?.[1] ?? []);

/** Later partitions are made ahead of time by the server, each with this trigger: a partition does not inherit it. */
const AUDIT_IS_APPEND_ONLY = [
  `CREATE FUNCTION audit_entries_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'audit entries are append-only'; END $$`,
  `DO $$
    DECLARE
      month timestamptz := date_trunc('month', now(), 'UTC');
      partition text := 'audit_entries_p' || to_char(month AT TIME ZONE 'UTC', 'YYYYMM');
      target text;
    BEGIN
      EXECUTE format('CREATE TABLE %I PARTITION OF audit_entries FOR VALUES FROM (MINVALUE) TO (%L)',
        partition, (month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC');
      FOREACH target IN ARRAY ARRAY['audit_entries', partition] LOOP
        EXECUTE format('CREATE TRIGGER audit_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I
          FOR EACH STATEMENT EXECUTE FUNCTION audit_entries_append_only()', target);
      END LOOP;
    END $$`,
];

/** Bin of a value in the mergeable histogram; the same rule as src/telemetry/histogram.ts, which turns bins back into values. */
const HISTOGRAM_BIN = `
  CREATE FUNCTION telemetry_bin(v double precision) RETURNS integer LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE WHEN v = 0 THEN 0
                WHEN v > 0 THEN (ceil(ln(v) / ln(1.04::double precision)) + 20000)::integer
                ELSE (-ceil(ln(-v) / ln(1.04::double precision)) - 20000)::integer END
  $$`;

/** Place of an event in the order of all events; the relay takes numbers from it. */
const EVENT_SEQUENCE = 'CREATE SEQUENCE events_seq';

const ROWS = [
  'INSERT INTO event_store_marker DEFAULT VALUES',
  'INSERT INTO events_removed DEFAULT VALUES',
  `INSERT INTO command_types
     (type, description, parameters, executor, default_timeout_seconds, risk, idempotent, enabled, built_in)
   SELECT type, description, '{"type": "object"}', executor, seconds, risk, idempotent, true, true
   FROM (VALUES
     ('system.ping', 'Answers with the time', 'any', 30, 'low', true),
     ('system.info', 'Describes the machine', 'any', 60, 'low', true),
     ('system.processes', 'Lists the busiest processes', 'agent', 60, 'low', true),
     ('system.restart', 'Restarts the machine or the agent', 'agent', 300, 'high', false),
     ('health_check', 'Checks the health of the target', 'any', 60, 'low', true),
     ('execute_task', 'Carries out a task on the target', 'agent', 300, 'medium', false),
     ('update_config', 'Changes the configuration of the target', 'agent', 300, 'medium', false),
     ('restart', 'Restarts a service on the target', 'agent', 300, 'high', false),
     ('sync_state', 'Brings the state of the target up to date', 'agent', 300, 'low', true),
     ('deploy.app', 'Deploys an application to the target', 'agent', 900, 'high', false)
   ) AS t (type, description, executor, seconds, risk, idempotent)`,
];
