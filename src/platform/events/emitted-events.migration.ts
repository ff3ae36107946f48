import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * What callers say of the events they emit, and the indexes of looking events up (rows EVT-01, EVT-02). `source` is null on the
 * server's own. The partial indexes cost those nothing.
 */
export class ExtendEvents1763710000000 implements MigrationInterface {
  readonly name = 'ExtendEvents1763710000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      ALTER TABLE events
        ADD COLUMN source text,
        ADD COLUMN metadata jsonb,
        ADD COLUMN priority text NOT NULL DEFAULT 'normal' CHECK (priority IN ('low', 'normal', 'high', 'critical')),
        ADD COLUMN correlation_id text,
        ADD COLUMN expires_at timestamptz(3)`);
    await db.query(`DROP INDEX events_type`);
    await db.query(`DROP INDEX events_occurred_at`);
    await db.query(`CREATE INDEX events_occurred_at ON events (occurred_at, id)`);
    // Names and what they begin with; what they end with.
    await db.query(`CREATE INDEX events_type ON events (type text_pattern_ops, occurred_at)`);
    await db.query(`CREATE INDEX events_type_end ON events (reverse(type) text_pattern_ops, occurred_at)`);
    await db.query(`CREATE INDEX events_source ON events (source, occurred_at) WHERE source IS NOT NULL`);
    await db.query(`
      CREATE INDEX events_correlation ON events (correlation_id, occurred_at) WHERE correlation_id IS NOT NULL`);
    await db.query(`CREATE INDEX events_priority ON events (priority, occurred_at) WHERE priority <> 'normal'`);
    await db.query(`CREATE INDEX events_expires_at ON events (expires_at) WHERE expires_at IS NOT NULL`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP INDEX events_type_end`);
    await db.query(`DROP INDEX events_type`);
    await db.query(`DROP INDEX events_occurred_at`);
    await db.query(`
      ALTER TABLE events DROP COLUMN source, DROP COLUMN metadata, DROP COLUMN priority, DROP COLUMN correlation_id,
        DROP COLUMN expires_at`);
    await db.query(`CREATE INDEX events_occurred_at ON events (occurred_at)`);
    await db.query(`CREATE INDEX events_type ON events (type, seq)`);
  }
}
