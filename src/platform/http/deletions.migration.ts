import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Ids whose rows are gone (GEN-13). */
export class CreateDeletions1763770000000 implements MigrationInterface {
  readonly name = 'CreateDeletions1763770000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE deletions (
        id text PRIMARY KEY,
        owner text,
        deleted_at timestamptz(3) NOT NULL DEFAULT now()
      )`);
    await db.query(`CREATE INDEX deletions_deleted_at ON deletions (deleted_at)`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE deletions`);
  }
}
