import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Stored answers of POST requests with an `Idempotency-Key` (GEN-14). */
export class CreateIdempotencyKeys1763700050000 implements MigrationInterface {
  readonly name = 'CreateIdempotencyKeys1763700050000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE idempotency_keys (
        principal text NOT NULL,
        route text NOT NULL,
        key text NOT NULL,
        request_hash bytea NOT NULL,
        status smallint,
        headers jsonb,
        body text,
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL,
        PRIMARY KEY (principal, route, key)
      )`);
    await db.query(`CREATE INDEX idempotency_keys_expires ON idempotency_keys (expires_at)`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE idempotency_keys`);
  }
}
