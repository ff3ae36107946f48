import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Webhooks that belong to an event subscription, that want only some events, or many in one delivery (row EVT-04); deliveries that
 * expire, and those of one event (rows EVT-01, EVT-03).
 */
export class ExtendWebhooks1763710100000 implements MigrationInterface {
  readonly name = 'ExtendWebhooks1763710100000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      ALTER TABLE webhooks
        ADD COLUMN managed_by uuid UNIQUE,
        ADD COLUMN reader_scopes text[],
        ADD COLUMN filters jsonb,
        ADD COLUMN batch_size integer CHECK (batch_size > 0),
        ADD COLUMN batch_wait_ms integer CHECK (batch_wait_ms > 0),
        ADD CHECK ((batch_size IS NULL) = (batch_wait_ms IS NULL))`);
    await db.query(`ALTER TABLE webhook_deliveries ADD COLUMN expires_at timestamptz(3)`);
    await db.query(`CREATE INDEX webhook_deliveries_event ON webhook_deliveries (event_id)`);
    // One row per event and webhook, also after it was sent: that is how a repeated event is known.
    await db.query(`
      CREATE TABLE webhook_batch_items (
        webhook_id uuid NOT NULL REFERENCES webhooks ON DELETE CASCADE,
        event_id uuid NOT NULL,
        seq bigint NOT NULL,
        body bytea,
        expires_at timestamptz(3),
        added_at timestamptz(3) NOT NULL DEFAULT now(),
        delivery_id uuid REFERENCES webhook_deliveries ON DELETE CASCADE,
        PRIMARY KEY (webhook_id, event_id),
        CHECK ((delivery_id IS NULL) = (body IS NOT NULL))
      )`);
    await db.query(`
      CREATE INDEX webhook_batch_items_waiting ON webhook_batch_items (webhook_id, seq) WHERE delivery_id IS NULL`);
    await db.query(`CREATE INDEX webhook_batch_items_event ON webhook_batch_items (event_id)`);
    await db.query(`CREATE INDEX webhook_batch_items_delivery ON webhook_batch_items (delivery_id)`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE webhook_batch_items`);
    await db.query(`ALTER TABLE webhook_deliveries DROP COLUMN expires_at`);
    await db.query(`DROP INDEX webhook_deliveries_event`);
    await db.query(`
      ALTER TABLE webhooks DROP COLUMN managed_by, DROP COLUMN reader_scopes, DROP COLUMN filters,
        DROP COLUMN batch_wait_ms, DROP COLUMN batch_size`);
  }
}
