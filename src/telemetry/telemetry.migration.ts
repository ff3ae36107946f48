import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Raw telemetry in daily partitions, the catalogue of its series, their rollups and the buckets that wait to be rolled up. */
export class CreateTelemetry1763700400000 implements MigrationInterface {
  readonly name = 'CreateTelemetry1763700400000';

  async up(db: QueryRunner): Promise<void> {
    // Narrow indexes: each one costs every insert. Ties on the time are sorted by id when read.
    await db.query(`
      CREATE TABLE telemetry_events (
        event_id uuid NOT NULL,
        ts timestamptz NOT NULL,
        received_at timestamptz NOT NULL,
        series_id bigint,
        value double precision,
        event_type text COLLATE "C" NOT NULL,
        source text COLLATE "C" NOT NULL,
        data jsonb NOT NULL,
        metadata jsonb,
        PRIMARY KEY (event_id, ts)
      ) PARTITION BY RANGE (ts)`);
    await db.query(`CREATE INDEX telemetry_events_source ON telemetry_events (source, ts)`);
    await db.query(`CREATE INDEX telemetry_events_type ON telemetry_events (event_type, ts)`);
    await db.query(`CREATE INDEX telemetry_events_ts ON telemetry_events (ts)`);
    await db.query(`
      CREATE TABLE telemetry_batches (
        id uuid PRIMARY KEY,
        created_at timestamptz NOT NULL,
        actor_id text NOT NULL,
        accepted_count integer NOT NULL,
        duplicate_count integer NOT NULL,
        rejected_count integer NOT NULL,
        errors jsonb NOT NULL
      )`);
    await db.query(`CREATE INDEX telemetry_batches_created_at ON telemetry_batches (created_at)`);
    // metric_name '' stands for the events of a source that carry no number.
    await db.query(`
      CREATE TABLE telemetry_series (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        key uuid NOT NULL UNIQUE,
        source text COLLATE "C" NOT NULL,
        metric_name text COLLATE "C" NOT NULL,
        tags jsonb NOT NULL,
        unit text,
        event_type text NOT NULL,
        first_seen timestamptz NOT NULL,
        last_seen timestamptz NOT NULL
      ) WITH (fillfactor = 80)`);
    await db.query(`CREATE INDEX telemetry_series_metric ON telemetry_series (metric_name, source)`);
    await db.query(`CREATE INDEX telemetry_series_source ON telemetry_series (source)`);
    // Appended to by every flush in its own transaction, so a bucket is never forgotten; the roller takes rows away.
    await db.query(`
      CREATE TABLE telemetry_dirty (resolution integer NOT NULL, bucket timestamptz NOT NULL)
      WITH (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0)`);
    await db.query(`
      CREATE TABLE telemetry_rollups (
        resolution integer NOT NULL,
        series_id bigint NOT NULL,
        bucket timestamptz NOT NULL,
        count bigint NOT NULL,
        sum double precision NOT NULL,
        min double precision NOT NULL,
        max double precision NOT NULL,
        last_at timestamptz NOT NULL,
        last double precision NOT NULL,
        bins integer[] NOT NULL,
        bin_counts bigint[] NOT NULL,
        PRIMARY KEY (resolution, series_id, bucket)
      )`);
    await db.query(`CREATE INDEX telemetry_rollups_bucket ON telemetry_rollups (resolution, bucket)`);
    // Bin of a value in the mergeable histogram; the same rule as histogram.ts, which turns bins back into values.
    await db.query(`
      CREATE FUNCTION telemetry_bin(v double precision) RETURNS integer
      LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
        SELECT CASE WHEN v = 0 THEN 0
                    WHEN v > 0 THEN (ceil(ln(v) / ln(1.04::double precision)) + 20000)::integer
                    ELSE (-ceil(ln(-v) / ln(1.04::double precision)) - 20000)::integer END
      $$`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP FUNCTION telemetry_bin`);
    await db.query(
      `DROP TABLE telemetry_rollups, telemetry_dirty, telemetry_series, telemetry_batches, telemetry_events`,
    );
  }
}
