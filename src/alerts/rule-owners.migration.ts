import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Whose rights the actions of a rule go by: who wrote it last, and with which key. */
export class NoteRuleOwners1763961000000 implements MigrationInterface {
  readonly name = 'NoteRuleOwners1763961000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      ALTER TABLE alert_rules ADD COLUMN owner_id text, ADD COLUMN owner_credential text,
        ADD COLUMN suspended_actions text[] NOT NULL DEFAULT '{}'`);
    await db.query(`UPDATE alert_rules SET owner_id = updated_by`);
    await db.query(`ALTER TABLE alert_rules ALTER COLUMN owner_id SET NOT NULL`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`
      ALTER TABLE alert_rules DROP COLUMN owner_id, DROP COLUMN owner_credential, DROP COLUMN suspended_actions`);
  }
}
