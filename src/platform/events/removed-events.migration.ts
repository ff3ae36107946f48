import type { MigrationInterface, QueryRunner } from 'typeorm';

/** How far events were purged that others before and behind them have outlived (row EVT-08). */
export class NoteRemovedEvents1763720300000 implements MigrationInterface {
  readonly name = 'NoteRemovedEvents1763720300000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE events_removed (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        up_to bigint NOT NULL DEFAULT 0
      )`);
    await db.query(`INSERT INTO events_removed DEFAULT VALUES`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE events_removed`);
  }
}
