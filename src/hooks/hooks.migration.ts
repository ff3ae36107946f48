import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Hooks that other programs call, and the messages they have sent (row WHK-10). */
export class CreateHooks1763741000000 implements MigrationInterface {
  readonly name = 'CreateHooks1763741000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE hooks (
        id uuid PRIMARY KEY,
        name text NOT NULL UNIQUE,
        scheme text NOT NULL CHECK (scheme IN ('standard', 'nexus', 'github')),
        event_type text NOT NULL,
        enabled boolean NOT NULL,
        description text NOT NULL,
        secret_box text NOT NULL,
        previous_secret_box text,
        previous_secret_until timestamptz(3),
        created_by text NOT NULL,
        received_count bigint NOT NULL DEFAULT 0,
        rejected_count bigint NOT NULL DEFAULT 0,
        last_received_at timestamptz(3),
        version integer NOT NULL DEFAULT 1,
        created_at timestamptz(3) NOT NULL DEFAULT now(),
        updated_at timestamptz(3) NOT NULL DEFAULT now()
      )`);
    await db.query(`
      CREATE TABLE hook_receipts (
        hook_id uuid NOT NULL REFERENCES hooks ON DELETE CASCADE,
        message_id text NOT NULL,
        event_id uuid,
        event_type text,
        received_at timestamptz(3) NOT NULL DEFAULT now(),
        PRIMARY KEY (hook_id, message_id)
      )`);
    await db.query(`CREATE INDEX hook_receipts_received ON hook_receipts (received_at)`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE hook_receipts, hooks`);
  }
}
