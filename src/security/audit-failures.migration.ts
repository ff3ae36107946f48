import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Refusals and failures are few and asked for often; without an index each question reads the whole trail. */
export class IndexAuditFailures1763701900000 implements MigrationInterface {
  readonly name = 'IndexAuditFailures1763701900000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(
      `CREATE INDEX audit_entries_failures ON audit_entries (status_code, at, id) WHERE status_code >= 400`,
    );
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP INDEX audit_entries_failures`);
  }
}
