import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Whose rights a webhook goes by: who wrote it last, and with which key (rules 8 and 9). */
export class NoteWebhookHolders1763800000000 implements MigrationInterface {
  readonly name = 'NoteWebhookHolders1763800000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE webhooks ADD COLUMN holder_id text, ADD COLUMN holder_credential text`);
    await db.query(`UPDATE webhooks SET holder_id = created_by`);
    await db.query(`ALTER TABLE webhooks ALTER COLUMN holder_id SET NOT NULL`);
    await db.query(`CREATE INDEX webhooks_holder ON webhooks (holder_id)`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE webhooks DROP COLUMN holder_credential, DROP COLUMN holder_id`);
  }
}
