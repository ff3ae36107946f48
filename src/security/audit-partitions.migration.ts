import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Partitions the audit trail by month, so that old months are dropped whole. What is there becomes the partition of the
 * current month and everything before it; nothing is copied.
 */
export class PartitionAudit1763920000000 implements MigrationInterface {
  readonly name = 'PartitionAudit1763920000000';

  async up(db: QueryRunner): Promise<void> {
    const [{ month, until, next_id }] = (await db.query(`
      SELECT to_char(last, 'YYYYMM') AS month, (last + interval '1 month')::text AS until, next_id
      FROM (SELECT date_trunc('month', greatest(max(at), now())) AS last, coalesce(max(id), 0) + 1 AS next_id
            FROM audit_entries) found`)) as { month: string; until: string; next_id: string }[];
    const old = `audit_entries_p${month}`;
    await db.query(`ALTER TABLE audit_entries RENAME TO ${old}`);
    // A table to attach must not have an identity column.
    await db.query(`ALTER TABLE ${old} ALTER COLUMN id DROP IDENTITY`);
    await db.query(`ALTER TABLE ${old} DROP CONSTRAINT audit_entries_pkey`);
    await db.query(`CREATE SEQUENCE audit_entries_id_seq START WITH ${next_id}`);
    await db.query(`
      CREATE TABLE audit_entries (
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
      ) PARTITION BY RANGE (at)`);
    await db.query(`ALTER SEQUENCE audit_entries_id_seq OWNED BY audit_entries.id`);
    for (const [name, columns] of Object.entries(INDEXES)) {
      await db.query(`ALTER INDEX audit_entries_${name} RENAME TO ${old}_${name}`);
      await db.query(`CREATE INDEX audit_entries_${name} ON audit_entries ${columns}`);
    }
    await db.query(`
      CREATE TRIGGER audit_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries
      FOR EACH STATEMENT EXECUTE FUNCTION audit_entries_append_only()`);
    await db.query(`ALTER TABLE audit_entries ATTACH PARTITION ${old} FOR VALUES FROM (MINVALUE) TO ('${until}')`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`CREATE TABLE audit_entries_whole (LIKE audit_entries INCLUDING DEFAULTS)`);
    await db.query(`INSERT INTO audit_entries_whole SELECT * FROM audit_entries`);
    await db.query(`ALTER SEQUENCE audit_entries_id_seq OWNED BY NONE`);
    await db.query(`DROP TABLE audit_entries`);
    await db.query(`ALTER TABLE audit_entries_whole RENAME TO audit_entries`);
    await db.query(`ALTER TABLE audit_entries ADD PRIMARY KEY (id), ALTER COLUMN id DROP DEFAULT`);
    await db.query(
      `ALTER TABLE audit_entries ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME audit_entries_identity)`,
    );
    await db.query(`SELECT setval('audit_entries_identity', nextval('audit_entries_id_seq'))`);
    await db.query(`DROP SEQUENCE audit_entries_id_seq`);
    await db.query(`ALTER SEQUENCE audit_entries_identity RENAME TO audit_entries_id_seq`);
    for (const [name, columns] of Object.entries(INDEXES)) {
      await db.query(`CREATE INDEX audit_entries_${name} ON audit_entries ${columns}`);
    }
    await db.query(`
      CREATE TRIGGER audit_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries
      FOR EACH STATEMENT EXECUTE FUNCTION audit_entries_append_only()`);
  }
}

const INDEXES = {
  at: '(at, id)',
  actor: '(actor_id, at, id)',
  resource: '(resource_id, at) WHERE resource_id IS NOT NULL',
  failures: '(status_code, at, id) WHERE status_code >= 400',
};
