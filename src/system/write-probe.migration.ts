import type { MigrationInterface, QueryRunner } from 'typeorm';

/** A row that the health check writes, to find out whether the database takes changes. */
export class CreateWriteProbe1763930200000 implements MigrationInterface {
  readonly name = 'CreateWriteProbe1763930200000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE write_probe (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        written_at timestamptz NOT NULL DEFAULT now()
      )`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE write_probe`);
  }
}
