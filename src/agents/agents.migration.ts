import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Registry of agents and the one-time tokens by which they join (rows AI-01..05). */
export class CreateAgents1763700500000 implements MigrationInterface {
  readonly name = 'CreateAgents1763700500000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE agents (
        id uuid PRIMARY KEY,
        name text NOT NULL,
        agent_type text NOT NULL,
        capabilities text[] NOT NULL DEFAULT '{}',
        version text NOT NULL,
        endpoint text,
        authentication jsonb,
        labels jsonb NOT NULL DEFAULT '{}',
        reported_labels jsonb NOT NULL DEFAULT '{}',
        all_labels jsonb GENERATED ALWAYS AS (reported_labels || labels) STORED,
        status text NOT NULL
          CHECK (status IN ('active', 'degraded', 'inactive', 'offline', 'maintenance', 'deregistered')),
        held boolean NOT NULL DEFAULT false,
        load_percent real,
        last_seen_at timestamptz,
        connected_at timestamptz,
        link_node uuid,
        link_id uuid,
        hostname text,
        platform text,
        command_types jsonb NOT NULL DEFAULT '[]',
        registered_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        row_version integer NOT NULL DEFAULT 1
      )`);
    await db.query(`CREATE UNIQUE INDEX agents_name ON agents (lower(name)) WHERE status <> 'deregistered'`);
    await db.query(`CREATE INDEX agents_labels ON agents USING gin (all_labels jsonb_path_ops)`);
    await db.query(`CREATE INDEX agents_registered_at ON agents (registered_at, id)`);
    await db.query(`
      CREATE TABLE agent_join_tokens (
        id uuid PRIMARY KEY,
        hash bytea NOT NULL UNIQUE,
        preview text NOT NULL,
        labels jsonb NOT NULL DEFAULT '{}',
        created_by text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL,
        used_at timestamptz,
        used_by_agent uuid,
        revoked_at timestamptz
      )`);
    await db.query(`CREATE INDEX agent_join_tokens_created_at ON agent_join_tokens (created_at)`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE agent_join_tokens`);
    await db.query(`DROP TABLE agents`);
  }
}
