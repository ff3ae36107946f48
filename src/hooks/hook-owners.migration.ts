import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Whose rights a hook goes by: who wrote it last, and with which key. */
export class NoteHookOwners1764030100000 implements MigrationInterface {
  readonly name = 'NoteHookOwners1764030100000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE hooks ADD COLUMN owner_id text, ADD COLUMN owner_credential text`);
    await db.query(`UPDATE hooks SET owner_id = created_by`);
    await db.query(`ALTER TABLE hooks ALTER COLUMN owner_id SET NOT NULL`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE hooks DROP COLUMN owner_id, DROP COLUMN owner_credential`);
  }
}
