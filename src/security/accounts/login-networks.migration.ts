import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Failed logins are counted by network; the networks that an account has logged in from are kept, and those of live sessions taken over. */
export class KeepLoginNetworks1763920200000 implements MigrationInterface {
  readonly name = 'KeepLoginNetworks1763920200000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`ALTER TABLE login_attempts RENAME COLUMN ip TO network`);
    await db.query(`
      CREATE TABLE login_networks (
        user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        network text NOT NULL,
        last_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (user_id, network)
      )`);
    await db.query(`CREATE INDEX login_networks_last ON login_networks (last_at)`);
    await db.query(`
      INSERT INTO login_networks (user_id, network, last_at)
      SELECT user_id,
        CASE WHEN ip LIKE '%:%' THEN network(set_masklen(ip::inet, 64))::text ELSE ip END, max(created_at)
      FROM sessions WHERE revoked_at IS NULL AND expires_at > now() AND ip ~ '^[0-9a-f.:]*[.:][0-9a-f.:]*$'
      GROUP BY 1, 2`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE login_networks`);
    await db.query(`ALTER TABLE login_attempts RENAME COLUMN network TO ip`);
  }
}
