import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The audit trail (rows SEC-07, SEC-08): append-only entries, and the open minutes of high-rate routes that become entries. */
export class CreateAudit1763700100000 implements MigrationInterface {
  readonly name = 'CreateAudit1763700100000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE audit_entries (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
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
      )`);
    await db.query(`CREATE INDEX audit_entries_at ON audit_entries (at, id)`);
    await db.query(`CREATE INDEX audit_entries_actor ON audit_entries (actor_id, at, id)`);
    await db.query(
      `CREATE INDEX audit_entries_resource ON audit_entries (resource_id, at) WHERE resource_id IS NOT NULL`,
    );
    await db.query(`
      CREATE FUNCTION audit_entries_append_only() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN RAISE EXCEPTION 'audit entries are append-only'; END $$`);
    await db.query(`
      CREATE TRIGGER audit_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries
      FOR EACH STATEMENT EXECUTE FUNCTION audit_entries_append_only()`);
    await db.query(`
      CREATE TABLE audit_minutes (
        minute timestamptz NOT NULL,
        actor_id text NOT NULL,
        credential_id text NOT NULL DEFAULT '',
        action text NOT NULL,
        status_code smallint NOT NULL,
        count integer NOT NULL,
        ip_address text,
        user_agent text,
        PRIMARY KEY (minute, actor_id, credential_id, action, status_code)
      )`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE audit_minutes`);
    await db.query(`DROP TABLE audit_entries`);
    await db.query(`DROP FUNCTION audit_entries_append_only`);
  }
}
