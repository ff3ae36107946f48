import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Event subscriptions (row EVT-04). Where one is delivered to is a matter of its webhook. */
export class CreateEventSubscriptions1763710200000 implements MigrationInterface {
  readonly name = 'CreateEventSubscriptions1763710200000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE event_subscriptions (
        id uuid PRIMARY KEY,
        owner_id text NOT NULL,
        name text NOT NULL,
        event_patterns text[] NOT NULL CHECK (cardinality(event_patterns) > 0),
        filters jsonb,
        reader_scopes text[] NOT NULL,
        delivery_method text NOT NULL CHECK (delivery_method IN ('webhook', 'stream')),
        enabled boolean NOT NULL,
        version integer NOT NULL DEFAULT 1,
        created_at timestamptz(3) NOT NULL DEFAULT now(),
        updated_at timestamptz(3) NOT NULL DEFAULT now()
      )`);
    await db.query(
      `CREATE INDEX event_subscriptions_owner ON event_subscriptions (owner_id, created_at DESC, id DESC)`,
    );
    // Who wants an event is found by the patterns that stand for its name.
    await db.query(`
      CREATE INDEX event_subscriptions_streams ON event_subscriptions USING gin (event_patterns)
      WHERE enabled AND delivery_method = 'stream'`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE event_subscriptions`);
  }
}
