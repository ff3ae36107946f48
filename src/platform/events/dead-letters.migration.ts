import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Events that a handler could not take in all its attempts (row EVT-12). */
export class CreateDeadLetters1763720100000 implements MigrationInterface {
  readonly name = 'CreateDeadLetters1763720100000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE event_dead_letters (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        handler text NOT NULL,
        event_id uuid NOT NULL,
        event_type text NOT NULL,
        event jsonb NOT NULL,
        status text NOT NULL DEFAULT 'failed' CHECK (status IN ('failed', 'retrying')),
        error text NOT NULL,
        attempts integer NOT NULL,
        retries integer NOT NULL DEFAULT 0,
        first_failed_at timestamptz(3) NOT NULL DEFAULT now(),
        failed_at timestamptz(3) NOT NULL DEFAULT now(),
        dispatched_at timestamptz(3),
        UNIQUE (handler, event_id)
      )`);
    await db.query(`CREATE INDEX event_dead_letters_newest ON event_dead_letters (failed_at DESC, id DESC)`);
    await db.query(`
      CREATE INDEX event_dead_letters_retrying ON event_dead_letters (dispatched_at) WHERE status = 'retrying'`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE event_dead_letters`);
  }
}
