import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Which key a key was made with, so that it ends with that one. */
export class NoteCredentialParents1763960000000 implements MigrationInterface {
  readonly name = 'NoteCredentialParents1763960000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE credentials ADD COLUMN parent_id uuid REFERENCES credentials (id) ON DELETE SET NULL`);
    await db.query(`CREATE INDEX credentials_parent ON credentials (parent_id) WHERE parent_id IS NOT NULL`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE credentials DROP COLUMN parent_id`);
  }
}
