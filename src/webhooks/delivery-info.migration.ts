import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What the body of each attempt said of the attempt. `json` keeps the text as it was sent, which `jsonb` would not. */
export class NoteDeliveryInfo1763980000000 implements MigrationInterface {
  readonly name = 'NoteDeliveryInfo1763980000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE webhook_attempts ADD COLUMN delivery_info json`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE webhook_attempts DROP COLUMN delivery_info`);
  }
}
