import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * One index less to write for each delivery: by event first, the unique one finds the deliveries of an event too, and the rows of one
 * event to a hundred webhooks go into one of its pages instead of a hundred.
 */
export class JoinDeliveryIndexes1763800100000 implements MigrationInterface {
  readonly name = 'JoinDeliveryIndexes1763800100000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE webhook_deliveries ADD UNIQUE (event_id, webhook_id)`);
    await db.query(`ALTER TABLE webhook_deliveries DROP CONSTRAINT webhook_deliveries_webhook_id_event_id_key`);
    await db.query(`DROP INDEX webhook_deliveries_event`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`CREATE INDEX webhook_deliveries_event ON webhook_deliveries (event_id)`);
    await db.query(`ALTER TABLE webhook_deliveries ADD UNIQUE (webhook_id, event_id)`);
    await db.query(`ALTER TABLE webhook_deliveries DROP CONSTRAINT webhook_deliveries_event_id_webhook_id_key`);
  }
}
