import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The key that an event subscription was written with, and when it was disabled because its owner lost the right to it. */
export class NoteSubscriptionOwners1763962000000 implements MigrationInterface {
  readonly name = 'NoteSubscriptionOwners1763962000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      ALTER TABLE event_subscriptions ADD COLUMN owner_credential text, ADD COLUMN disabled_at timestamptz(3),
        ADD CHECK (NOT (enabled AND disabled_at IS NOT NULL))`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE event_subscriptions DROP COLUMN owner_credential, DROP COLUMN disabled_at`);
  }
}
