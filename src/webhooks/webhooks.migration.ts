import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Webhooks, what is to be delivered to them, and every attempt (rows WHK-01..08). */
export class CreateWebhooks1763700720000 implements MigrationInterface {
  readonly name = 'CreateWebhooks1763700720000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE webhooks (
        id uuid PRIMARY KEY,
        url text NOT NULL,
        events text[] NOT NULL CHECK (cardinality(events) > 0),
        private_events boolean NOT NULL,
        secret_box text NOT NULL,
        previous_secret_box text,
        previous_secret_until timestamptz(3),
        active boolean NOT NULL,
        disabled_at timestamptz(3),
        disabled_reason text,
        retry_config jsonb NOT NULL,
        description text NOT NULL,
        created_by text NOT NULL,
        failing_since timestamptz(3),
        consecutive_failures integer NOT NULL DEFAULT 0,
        last_success_at timestamptz(3),
        version integer NOT NULL DEFAULT 1,
        created_at timestamptz(3) NOT NULL DEFAULT now(),
        updated_at timestamptz(3) NOT NULL DEFAULT now(),
        CHECK (NOT (active AND disabled_at IS NOT NULL))
      )`);
    await db.query(`
      CREATE TABLE webhook_deliveries (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        webhook_id uuid NOT NULL REFERENCES webhooks ON DELETE CASCADE,
        event_id uuid NOT NULL,
        event_type text NOT NULL,
        body bytea NOT NULL,
        status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'failed')),
        attempts integer NOT NULL DEFAULT 0,
        failures integer NOT NULL DEFAULT 0,
        next_attempt_at timestamptz(3) DEFAULT now(),
        sending_since timestamptz(3),
        created_at timestamptz(3) NOT NULL DEFAULT now(),
        finished_at timestamptz(3),
        UNIQUE (webhook_id, event_id),
        CHECK ((status = 'pending') = (next_attempt_at IS NOT NULL)),
        CHECK ((status = 'pending') = (finished_at IS NULL))
      )`);
    await db.query(`
      CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, next_attempt_at) WHERE status = 'pending'`);
    await db.query(`
      CREATE INDEX webhook_deliveries_newest ON webhook_deliveries (webhook_id, created_at DESC, id DESC)`);
    await db.query(`
      CREATE INDEX webhook_deliveries_finished ON webhook_deliveries (finished_at) WHERE status <> 'pending'`);
    await db.query(`
      CREATE TABLE webhook_attempts (
        delivery_id uuid NOT NULL REFERENCES webhook_deliveries ON DELETE CASCADE,
        n integer NOT NULL,
        at timestamptz(3) NOT NULL,
        status_code integer,
        latency_ms integer,
        error_code text,
        error text,
        response_snippet text,
        PRIMARY KEY (delivery_id, n)
      )`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE webhook_attempts`);
    await db.query(`DROP TABLE webhook_deliveries`);
    await db.query(`DROP TABLE webhooks`);
  }
}
