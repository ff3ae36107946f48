import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Users, their sessions, the keys that act for users and agents, custom roles and the memory of failed logins. */
export class CreateSecurity1763700200000 implements MigrationInterface {
  readonly name = 'CreateSecurity1763700200000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE users (
        id uuid PRIMARY KEY,
        username text NOT NULL,
        email text,
        full_name text,
        password_hash text,
        status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'deleted')),
        roles text[] NOT NULL DEFAULT '{}',
        preferences jsonb NOT NULL DEFAULT '{}',
        metadata jsonb NOT NULL DEFAULT '{}',
        not_before timestamptz NOT NULL DEFAULT '-infinity',
        last_login_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        version integer NOT NULL DEFAULT 1
      )`);
    await db.query(`CREATE UNIQUE INDEX users_username ON users (lower(username))`);
    await db.query(`CREATE UNIQUE INDEX users_email ON users (lower(email)) WHERE email IS NOT NULL`);
    await db.query(`
      CREATE TABLE roles (
        id uuid PRIMARY KEY,
        name text NOT NULL UNIQUE,
        description text,
        scopes text[] NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        version integer NOT NULL DEFAULT 1,
        deleted_at timestamptz
      )`);
    await db.query(`
      CREATE TABLE sessions (
        id uuid PRIMARY KEY,
        user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        ip text,
        user_agent text,
        remember boolean NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        last_seen_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL,
        revoked_at timestamptz
      )`);
    await db.query(`CREATE INDEX sessions_user ON sessions (user_id, created_at)`);
    await db.query(`CREATE INDEX sessions_expires ON sessions (expires_at)`);
    await db.query(`
      CREATE TABLE refresh_tokens (
        hash bytea PRIMARY KEY,
        session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
        issued_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL,
        used_at timestamptz
      )`);
    await db.query(`CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id)`);
    await db.query(`
      CREATE TABLE credentials (
        id uuid PRIMARY KEY,
        kind text NOT NULL CHECK (kind IN ('api', 'tok', 'agent')),
        key_id text NOT NULL UNIQUE,
        hash bytea NOT NULL,
        preview text NOT NULL,
        name text NOT NULL,
        description text,
        owner_user_id uuid REFERENCES users (id) ON DELETE CASCADE,
        agent_id uuid,
        scopes text[] NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz,
        last_used_at timestamptz,
        revoked_at timestamptz,
        CHECK ((agent_id IS NULL) <> (owner_user_id IS NULL)),
        CHECK ((kind = 'agent') = (agent_id IS NOT NULL))
      )`);
    await db.query(`CREATE INDEX credentials_owner ON credentials (owner_user_id, created_at)`);
    await db.query(`CREATE INDEX credentials_agent ON credentials (agent_id) WHERE agent_id IS NOT NULL`);
    await db.query(`
      CREATE TABLE login_attempts (
        account bytea NOT NULL,
        ip text NOT NULL,
        failures integer NOT NULL,
        last_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (account, ip)
      )`);
    await db.query(`CREATE INDEX login_attempts_last ON login_attempts (last_at)`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE login_attempts, credentials, refresh_tokens, sessions, roles, users`);
  }
}
