import type { MigrationInterface, QueryRunner } from 'typeorm';

/** How far each subscriber has surely come with the events, and the number that the store of the queues must know. */
export class CreateEventCheckpoints1763930100000 implements MigrationInterface {
  readonly name = 'CreateEventCheckpoints1763930100000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE event_checkpoints (
        handler text PRIMARY KEY,
        seq bigint NOT NULL
      )`);
    await db.query(`
      CREATE TABLE event_store_marker (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        value bigint NOT NULL DEFAULT 0
      )`);
    await db.query(`INSERT INTO event_store_marker DEFAULT VALUES`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE event_store_marker`);
    await db.query(`DROP TABLE event_checkpoints`);
  }
}
