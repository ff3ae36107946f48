import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The outbox: events are written in the transaction of the change and relayed from here (row EVT-11). */
export class CreateEvents1763700000000 implements MigrationInterface {
  readonly name = 'CreateEvents1763700000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`CREATE SEQUENCE events_seq`);
    await db.query(`
      CREATE TABLE events (
        id uuid PRIMARY KEY,
        position bigint GENERATED ALWAYS AS IDENTITY,
        seq bigint UNIQUE,
        type text NOT NULL,
        subject text,
        data jsonb NOT NULL,
        actor_id text NOT NULL,
        request_id text,
        occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        relayed_at timestamptz
      )`);
    await db.query(`CREATE INDEX events_unrelayed ON events (position) WHERE relayed_at IS NULL`);
    await db.query(`CREATE INDEX events_occurred_at ON events (occurred_at)`);
    await db.query(`CREATE INDEX events_type ON events (type, seq)`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE events`);
    await db.query(`DROP SEQUENCE events_seq`);
  }
}
