import type { MigrationInterface, QueryRunner } from 'typeorm';

/** A value sealed with the master key in use, to find out at a start whether a process holds the keys of this database. */
export class CreateMasterKeyProbe1763930300000 implements MigrationInterface {
  readonly name = 'CreateMasterKeyProbe1763930300000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE master_key_probe (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        sealed text NOT NULL
      )`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE master_key_probe`);
  }
}
