import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Deliveries that were queued for a URL or owner that a webhook no longer has are cancelled. */
export class AllowCancelledDeliveries1763963000000 implements MigrationInterface {
  readonly name = 'AllowCancelledDeliveries1763963000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      ALTER TABLE webhook_deliveries DROP CONSTRAINT webhook_deliveries_status_check,
        ADD CONSTRAINT webhook_deliveries_status_check
          CHECK (status IN ('pending', 'delivered', 'failed', 'cancelled'))`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`UPDATE webhook_deliveries SET status = 'failed' WHERE status = 'cancelled'`);
    await db.query(`
      ALTER TABLE webhook_deliveries DROP CONSTRAINT webhook_deliveries_status_check,
        ADD CONSTRAINT webhook_deliveries_status_check CHECK (status IN ('pending', 'delivered', 'failed'))`);
  }
}
