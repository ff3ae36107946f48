import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Rules over telemetry, where each stands with each group, the alerts raised, silences, and who evaluates (rows TEL-06..08). */
export class CreateAlerts1763730000000 implements MigrationInterface {
  readonly name = 'CreateAlerts1763730000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE alert_rules (
        id uuid PRIMARY KEY,
        name text NOT NULL,
        description text NOT NULL,
        enabled boolean NOT NULL,
        severity text NOT NULL,
        definition jsonb NOT NULL,
        target_labels jsonb,
        version integer NOT NULL DEFAULT 1,
        created_by text NOT NULL,
        updated_by text NOT NULL,
        created_at timestamptz(3) NOT NULL DEFAULT now(),
        updated_at timestamptz(3) NOT NULL DEFAULT now()
      )`);
    await db.query(`CREATE INDEX alert_rules_newest ON alert_rules (created_at DESC, id DESC)`);
    await db.query(`
      CREATE TABLE alerts (
        id uuid PRIMARY KEY,
        rule_id uuid NOT NULL,
        group_id uuid NOT NULL,
        rule_name text NOT NULL,
        severity text NOT NULL,
        condition text NOT NULL,
        grouping jsonb NOT NULL,
        source text COLLATE "C",
        metric_name text,
        unit text,
        tags jsonb NOT NULL,
        event_id uuid,
        value double precision,
        status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'cleared')),
        started_at timestamptz(3) NOT NULL,
        last_value double precision,
        last_at timestamptz(3),
        count bigint NOT NULL DEFAULT 1,
        cleared_at timestamptz(3),
        cleared_by text,
        clear_reason text,
        acknowledged_at timestamptz(3),
        acknowledged_by text,
        notes jsonb NOT NULL DEFAULT '[]',
        silenced boolean NOT NULL DEFAULT false,
        notified_at timestamptz(3),
        actions jsonb NOT NULL DEFAULT '{}',
        CHECK ((status = 'cleared') = (cleared_at IS NOT NULL))
      )`);
    await db.query(`CREATE UNIQUE INDEX alerts_open ON alerts (rule_id, group_id) WHERE status = 'active'`);
    await db.query(`CREATE INDEX alerts_newest ON alerts (started_at DESC, id DESC)`);
    await db.query(`CREATE INDEX alerts_source ON alerts (source, started_at DESC)`);
    await db.query(`CREATE INDEX alerts_rule ON alerts (rule_id, started_at DESC)`);
    await db.query(`CREATE INDEX alerts_cleared ON alerts (cleared_at) WHERE status = 'cleared'`);
    await db.query(`CREATE INDEX alerts_silenced ON alerts (id) WHERE status = 'active' AND notified_at IS NULL`);
    await db.query(`
      CREATE TABLE alert_states (
        rule_id uuid NOT NULL REFERENCES alert_rules ON DELETE CASCADE,
        group_id uuid NOT NULL,
        group_key text NOT NULL,
        grouping jsonb NOT NULL,
        phase text NOT NULL DEFAULT 'ok' CHECK (phase IN ('ok', 'pending', 'firing', 'clearing')),
        matches integer NOT NULL DEFAULT 0,
        since timestamptz(3),
        last_ts timestamptz(3) NOT NULL DEFAULT 'epoch',
        raised_at timestamptz(3),
        due_at timestamptz(3),
        alert_id uuid,
        sample jsonb,
        recheck_at timestamptz(3),
        updated_at timestamptz(3) NOT NULL DEFAULT now(),
        PRIMARY KEY (rule_id, group_id),
        CHECK ((phase IN ('firing', 'clearing')) = (alert_id IS NOT NULL))
      )`);
    await db.query(`CREATE INDEX alert_states_due ON alert_states (due_at) WHERE due_at IS NOT NULL`);
    await db.query(`CREATE INDEX alert_states_recheck ON alert_states (recheck_at) WHERE recheck_at IS NOT NULL`);
    await db.query(`CREATE INDEX alert_states_updated ON alert_states (updated_at)`);
    await db.query(`
      CREATE TABLE alert_silences (
        id uuid PRIMARY KEY,
        comment text NOT NULL,
        matchers jsonb NOT NULL,
        starts_at timestamptz(3) NOT NULL,
        ends_at timestamptz(3) NOT NULL,
        created_by text NOT NULL,
        created_at timestamptz(3) NOT NULL DEFAULT now(),
        CHECK (ends_at > starts_at)
      )`);
    await db.query(`CREATE INDEX alert_silences_ends ON alert_silences (ends_at)`);
    // A process that takes telemetry in: what it received before done_before it has evaluated.
    await db.query(`
      CREATE TABLE alert_evaluators (
        id uuid PRIMARY KEY,
        beat_at timestamptz(3) NOT NULL,
        done_before timestamptz(3) NOT NULL
      )`);
    // What a process that died has left is found by the time of receipt; rows lie in its order, so a summary of pages is enough.
    await db.query(`
      CREATE INDEX telemetry_events_received ON telemetry_events
      USING brin (received_at) WITH (pages_per_range = 64, autosummarize = on)`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP INDEX telemetry_events_received`);
    await db.query(`DROP TABLE alert_evaluators, alert_silences, alert_states, alerts, alert_rules`);
  }
}
