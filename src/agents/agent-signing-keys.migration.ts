import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Key pairs that sign the commands of agents; agents that are there already get theirs with their next link. */
export class CreateAgentSigningKeys1763950000000 implements MigrationInterface {
  readonly name = 'CreateAgentSigningKeys1763950000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE agent_signing_keys (
        agent_id uuid PRIMARY KEY REFERENCES agents (id) ON DELETE CASCADE,
        public_key text NOT NULL,
        private_key text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
      )`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE agent_signing_keys`);
  }
}
