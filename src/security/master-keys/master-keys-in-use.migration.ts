import type { MigrationInterface, QueryRunner } from 'typeorm';

const ENCRYPTED = [
  ['webhooks', 'secret_box'],
  ['webhooks', 'previous_secret_box'],
  ['hooks', 'secret_box'],
  ['hooks', 'previous_secret_box'],
  ['agent_signing_keys', 'private_key'],
  ['idempotency_keys', 'body'],
];

/**
 * One row for each master key in use instead of one for the newest key. Earlier versions forgot a key at the first start with
 * another one before it, whatever was still encrypted with it: such keys are found again by their id.
 */
export class KeepMasterKeysInUse1764040000000 implements MigrationInterface {
  readonly name = 'KeepMasterKeysInUse1764040000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      ALTER TABLE master_key_probe
        DROP COLUMN one,
        ADD COLUMN key_id text,
        ADD COLUMN encrypting_at timestamptz(3) NOT NULL DEFAULT now(),
        ALTER COLUMN sealed DROP NOT NULL`);
    await db.query(`UPDATE master_key_probe SET key_id = split_part(sealed, '.', 2)`);
    await db.query(`ALTER TABLE master_key_probe ADD PRIMARY KEY (key_id)`);
    const ids = ENCRYPTED.map(([table, column]) => `SELECT split_part(${column}, '.', 2) FROM ${table}`);
    await db.query(`
      INSERT INTO master_key_probe (key_id)
      SELECT key_id FROM (${ids.join(' UNION ')}) AS used (key_id) WHERE key_id IS NOT NULL
      ON CONFLICT DO NOTHING`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`
      DELETE FROM master_key_probe WHERE key_id <> (
        SELECT key_id FROM master_key_probe WHERE sealed IS NOT NULL ORDER BY encrypting_at DESC LIMIT 1)`);
    await db.query(`
      ALTER TABLE master_key_probe
        DROP COLUMN key_id,
        DROP COLUMN encrypting_at,
        ALTER COLUMN sealed SET NOT NULL,
        ADD COLUMN one boolean PRIMARY KEY DEFAULT true CHECK (one)`);
  }
}
