import type { MigrationInterface, QueryRunner } from 'typeorm';

/** When each schedule has last run, in whatever process: what the store of the queues knows of it can be lost. */
export class CreateScheduleRuns1763930000000 implements MigrationInterface {
  readonly name = 'CreateScheduleRuns1763930000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE schedule_runs (
        job text PRIMARY KEY,
        last_run_at timestamptz(3) NOT NULL DEFAULT now()
      )`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE schedule_runs`);
  }
}
