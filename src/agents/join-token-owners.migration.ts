import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The key that a join token was made with: the token is void when the key is revoked. */
export class NoteJoinTokenOwners1764030000000 implements MigrationInterface {
  readonly name = 'NoteJoinTokenOwners1764030000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE agent_join_tokens ADD COLUMN owner_credential text`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE agent_join_tokens DROP COLUMN owner_credential`);
  }
}
