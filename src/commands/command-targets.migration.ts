import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Who carries a command out, by name, so that its events can say so. */
export class NameCommandTargets1763970100000 implements MigrationInterface {
  readonly name = 'NameCommandTargets1763970100000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE commands ADD COLUMN target_name text`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE commands DROP COLUMN target_name`);
  }
}
