import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Requests of strangers are counted by network: one network's count must not be added to another's. */
export class CountAuditByNetwork1763920100000 implements MigrationInterface {
  readonly name = 'CountAuditByNetwork1763920100000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE audit_minutes ADD COLUMN network text NOT NULL DEFAULT ''`);
    await this.key(db, ', network');
  }

  async down(db: QueryRunner): Promise<void> {
    // Entries keep the counts that the narrower key has no room for.
    await db.query(`
      WITH open AS (DELETE FROM audit_minutes RETURNING *)
      INSERT INTO audit_entries (at, actor_id, credential_id, action, status_code, count, ip_address, user_agent)
      SELECT minute, actor_id, nullif(credential_id, ''), action, status_code, count, ip_address, user_agent FROM open`);
    await this.key(db, '');
    await db.query(`ALTER TABLE audit_minutes DROP COLUMN network`);
  }

  private async key(db: QueryRunner, more: string): Promise<void> {
    await db.query(`
      ALTER TABLE audit_minutes DROP CONSTRAINT audit_minutes_pkey,
        ADD PRIMARY KEY (minute, actor_id, credential_id, action, status_code${more})`);
  }
}
