import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Takes events of every day: those without a daily partition go to a default one, which is emptied by the time of receipt. */
export class KeepOldTelemetry1763970000000 implements MigrationInterface {
  readonly name = 'KeepOldTelemetry1763970000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`CREATE TABLE telemetry_events_old PARTITION OF telemetry_events DEFAULT`);
    // A series of old events must stay as long as they do, however old their timestamps are.
    await db.query(`ALTER TABLE telemetry_series ADD COLUMN last_received timestamptz NOT NULL DEFAULT now()`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE telemetry_series DROP COLUMN last_received`);
    await db.query(`DROP TABLE telemetry_events_old`);
  }
}
