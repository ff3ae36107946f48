import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What proves that a repeated join comes from the agent that used the token. */
export class NoteJoinNonces1764000000000 implements MigrationInterface {
  readonly name = 'NoteJoinNonces1764000000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE agent_join_tokens ADD COLUMN nonce_hash bytea`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE agent_join_tokens DROP COLUMN nonce_hash`);
  }
}
