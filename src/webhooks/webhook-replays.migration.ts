import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Which replay a delivery was last sent for (row EVT-07). */
export class MarkReplayedDeliveries1763720200000 implements MigrationInterface {
  readonly name = 'MarkReplayedDeliveries1763720200000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE webhook_deliveries ADD COLUMN replay_id uuid`);
    await db.query(`
      CREATE INDEX webhook_deliveries_replay ON webhook_deliveries (replay_id, status) WHERE replay_id IS NOT NULL`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE webhook_deliveries DROP COLUMN replay_id`);
  }
}
