import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Security alerts, and the counts by the minute that bursts are found by, of all processes together (row SEC-13). */
export class CreateSecurityAlerts1763740000000 implements MigrationInterface {
  readonly name = 'CreateSecurityAlerts1763740000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE security_alerts (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        type text NOT NULL,
        subject text NOT NULL,
        severity text NOT NULL CHECK (severity IN ('low', 'medium', 'high', 'critical')),
        message text NOT NULL,
        details jsonb NOT NULL,
        occurrences integer NOT NULL,
        created_at timestamptz(3) NOT NULL DEFAULT now(),
        last_seen_at timestamptz(3) NOT NULL DEFAULT now(),
        acknowledged_at timestamptz(3),
        acknowledged_by text,
        UNIQUE (type, subject, created_at),
        CHECK ((acknowledged_at IS NULL) = (acknowledged_by IS NULL))
      )`);
    await db.query(`CREATE INDEX security_alerts_newest ON security_alerts (created_at DESC, id DESC)`);
    await db.query(`
      CREATE TABLE security_signals (
        kind text NOT NULL,
        subject text NOT NULL,
        minute timestamptz NOT NULL,
        count integer NOT NULL,
        PRIMARY KEY (kind, subject, minute)
      )`);
    await db.query(`CREATE INDEX security_signals_minute ON security_signals (minute)`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE security_signals, security_alerts`);
  }
}
