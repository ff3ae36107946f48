import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Commands, their output and the catalogue of command types (rows CMD-01..15). */
export class CreateCommands1763700600000 implements MigrationInterface {
  readonly name = 'CreateCommands1763700600000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE commands (
        id uuid PRIMARY KEY,
        parent_id uuid REFERENCES commands (id) ON DELETE CASCADE,
        retry_of uuid,
        command_type text NOT NULL,
        target text NOT NULL,
        agent_id uuid,
        executor text NOT NULL CHECK (executor IN ('link', 'http', 'builtin', 'fanout')),
        parameters jsonb NOT NULL,
        priority smallint NOT NULL,
        timeout_seconds int NOT NULL,
        status text NOT NULL
          CHECK (status IN ('queued', 'delivered', 'running', 'completed', 'failed', 'cancelled', 'timed_out')),
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
        attempts int NOT NULL DEFAULT 0,
        result jsonb,
        held_result jsonb,
        output_bytes bigint NOT NULL DEFAULT 0,
        output_truncated boolean NOT NULL DEFAULT false,
        timeline jsonb NOT NULL,
        callback_url text,
        callback_body text,
        callback_attempts int NOT NULL DEFAULT 0,
        callback_due_at timestamptz,
        version int NOT NULL DEFAULT 1,
        UNIQUE (created_by, idempotency_key)
      )`);
    // Rows of this table change a few times and then never again: room for the updates on the same page.
    await db.query(`ALTER TABLE commands SET (fillfactor = 70)`);
    await db.query(`CREATE INDEX commands_newest ON commands (created_at DESC, id DESC)`);
    await db.query(`CREATE INDEX commands_of_agent ON commands (agent_id, created_at DESC)`);
    await db.query(`CREATE INDEX commands_of_parent ON commands (parent_id) WHERE parent_id IS NOT NULL`);
    await db.query(`CREATE INDEX commands_open ON commands (agent_id, status)
      WHERE status IN ('queued', 'delivered', 'running')`);
    await db.query(`CREATE INDEX commands_deadline ON commands (deadline_at)
      WHERE status IN ('queued', 'delivered', 'running')`);
    await db.query(`CREATE INDEX commands_due ON commands (due_at) WHERE due_at IS NOT NULL`);
    await db.query(
      `CREATE INDEX commands_callback_due ON commands (callback_due_at) WHERE callback_due_at IS NOT NULL`,
    );
    await db.query(`CREATE INDEX commands_finished ON commands (completed_at) WHERE completed_at IS NOT NULL`);
    await db.query(`
      CREATE TABLE command_output (
        command_id uuid NOT NULL REFERENCES commands (id) ON DELETE CASCADE,
        "offset" bigint NOT NULL,
        stream text NOT NULL CHECK (stream IN ('stdout', 'stderr')),
        data bytea NOT NULL,
        received_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (command_id, "offset")
      )`);
    await db.query(`
      CREATE TABLE command_types (
        type text PRIMARY KEY,
        description text NOT NULL,
        parameters jsonb NOT NULL,
        executor text NOT NULL CHECK (executor IN ('agent', 'server', 'any')),
        default_timeout_seconds int NOT NULL,
        risk text NOT NULL CHECK (risk IN ('low', 'medium', 'high')),
        idempotent boolean NOT NULL,
        enabled boolean NOT NULL,
        built_in boolean NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        deleted_at timestamptz,
        version int NOT NULL DEFAULT 1
      )`);
    await db.query(
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
    );
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE command_types`);
    await db.query(`DROP TABLE command_output`);
    await db.query(`DROP TABLE commands`);
  }
}
