import type { MigrationInterface, QueryRunner } from 'typeorm';

/** When each schedule with short steps is due: the worker that moves it on runs it. */
export class CreateScheduleClaims1764020000000 implements MigrationInterface {
  readonly name = 'CreateScheduleClaims1764020000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE schedule_claims (
        job text PRIMARY KEY,
        next_run_at timestamptz(3) NOT NULL DEFAULT now()
      ) WITH (fillfactor = 50)`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE schedule_claims`);
  }
}
