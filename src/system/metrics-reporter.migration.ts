import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The process that shows the metrics that all processes share: one row. */
export class CreateMetricsReporter1763940000000 implements MigrationInterface {
  readonly name = 'CreateMetricsReporter1763940000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE metrics_reporter (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        process_id uuid NOT NULL,
        expires_at timestamptz NOT NULL
      )`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query('DROP TABLE metrics_reporter');
  }
}
